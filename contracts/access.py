"""Who is calling: the principal that every use case is asked by (P2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DEFAULT_TENANT: Final = "default"
ROLES: Final = ("submitter", "operator", "builder", "admin")
ANY_SCOPE: Final = "*"
"""Granted, it stands for every scope; no capability requires it."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: ``subject`` as it stands in records (``user:ana``), its tenant, roles and groups.

    ``scopes`` are what its runs may use (``contracts/scopes.py``). Who was granted nothing has none, as with roles.
    """

    subject: str
    tenant: str = DEFAULT_TENANT
    roles: frozenset[str] = field(default_factory=frozenset)
    groups: frozenset[str] = field(default_factory=frozenset)
    scopes: frozenset[str] = field(default_factory=frozenset)


LOCAL: Final = Principal(subject="user:local", roles=frozenset(ROLES), scopes=frozenset({ANY_SCOPE}))
"""Who a caller of an unconfigured service is: every role, every scope, the default tenant (wire §5a)."""
