"""Who is calling: the principal that every use case is asked by (P2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DEFAULT_TENANT: Final = "default"
ROLES: Final = ("submitter", "operator", "builder", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: ``subject`` as it stands in records (``user:ana``), its tenant, roles and groups."""

    subject: str
    tenant: str = DEFAULT_TENANT
    roles: frozenset[str] = field(default_factory=frozenset)
    groups: frozenset[str] = field(default_factory=frozenset)


LOCAL: Final = Principal(subject="user:local", roles=frozenset(ROLES))
"""Who a caller of an unconfigured service is: every role, the default tenant (wire §5a)."""
