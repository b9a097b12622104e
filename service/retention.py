"""How long a tenant keeps runs, audit records, conversations, documents and memory (P6): its policy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.clock import rfc3339_or_none
from contracts.errors import Unprocessable
from contracts.ids import AUDIT
from contracts.ports import Clock, Ids
from contracts.wire import Wire, read_model
from service.rights import check_retention
from store import audit
from store import retention as stored
from store.audit import AuditRow
from store.connect import Database
from store.retention import PolicyRow
from store.unit import Reader

MOST_DAYS: Final = 36_500
_Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]


class RetentionInput(Wire):
    """How many days things are kept; null keeps them for ever.

    What is left out of the last three stays as it is.
    """

    runs_days: _Days | None
    audit_days: _Days | None
    conversations_days: _Days | None = None
    documents_days: _Days | None = None
    memory_days: _Days | None = None

    def on(self, before: Keep) -> Keep:
        """Return what holds from now on where ``before`` held."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return replace(before, **given)


@dataclass(frozen=True, slots=True)
class Keep:
    """Days to keep things; null keeps them for ever."""

    runs_days: int | None
    audit_days: int | None
    conversations_days: int | None = None
    documents_days: int | None = None
    memory_days: int | None = None


async def keep_of(reader: Reader, tenant: str, defaults: Keep) -> Keep:
    """Return what holds for a tenant: its own policy, else the service's."""
    row = await stored.policy_of(reader, tenant)
    return defaults if row is None else _keep(row)


def _keep(row: PolicyRow) -> Keep:
    return Keep(**{part.name: getattr(row, part.name) for part in fields(Keep)})


class Retention:
    """The use cases of the policy; for admins."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, defaults: Keep) -> None:
        """``defaults`` hold for tenants without a policy of their own."""
        self._database, self._clock, self._ids, self._defaults = database, clock, ids, defaults

    async def read(self, principal: Principal) -> dict[str, Any]:
        """Return the days of each (``runs_days``, …), ``updated_by`` and ``updated_at``; both null for the defaults.

        Raises Forbidden.
        """
        check_retention(principal)
        async with self._database.reader() as reader:
            return self._shown(principal, await stored.policy_of(reader, principal.tenant))

    async def write(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Replace the tenant's policy and leave an audit record with what it was. Raises Forbidden, Unprocessable."""
        check_retention(principal)
        given = read_model(RetentionInput, body, Unprocessable)
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            before = await keep_of(unit, principal.tenant, self._defaults)
            after = given.on(before)
            row = PolicyRow(tenant=principal.tenant, updated_by=principal.subject, updated_at=now_ms, **asdict(after))
            await stored.put_policy(unit, row)
            said = {"roles": sorted(principal.roles), "before": asdict(before), "after": asdict(after)}
            await audit.add(
                unit,
                AuditRow(
                    self._ids.new(AUDIT), principal.tenant, now_ms, "retention.changed", principal.subject, None, None,
                    orjson.dumps(said).decode(),
                ),
            )  # fmt: skip
        return self._shown(principal, row)

    def _shown(self, principal: Principal, row: PolicyRow | None) -> dict[str, Any]:
        keep = self._defaults if row is None else _keep(row)
        return {
            **asdict(keep),
            "updated_by": None if row is None else row.updated_by,
            "updated_at": None if row is None else rfc3339_or_none(row.updated_at),
        }
