"""The sealer: numbers audit records and chains them, behind whoever wrote them (H9).

Any process may seal. Who gets the lock on a tenant's head seals one bounded batch in one transaction; the others leave
that tenant alone. So every record is sealed once, in one order, whatever dies in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from contracts.errors import StoreUnavailable
from hitl.chain import GENESIS, sealed
from store import audit
from store.audit import Mark
from store.connect import Database

_log = structlog.get_logger("flex.audit")

BATCH: Final = 100
LOOK_SECONDS: Final = 1.0
IDLE_LOOKS: Final = 5


class Sealer:
    """Seals what waits, of all tenants; one per process, any number of processes."""

    def __init__(
        self, database: Database, *, batch: int = BATCH, count: Callable[[int], None] = lambda _many: None
    ) -> None:
        """Take the database; ``batch`` bounds what one transaction seals, ``count`` is told of every batch."""
        self._database, self._batch, self._count = database, batch, count

    async def tick(self) -> int:
        """Seal everything that waits and that no other process is at; return how many. Raises StoreUnavailable.

        Tenants take turns, a batch each, so that a busy one keeps nobody waiting.
        """
        total = 0
        while True:
            round_ = 0
            tenant = await audit.waiting_tenant(self._database)
            while tenant is not None:
                round_ += await self._seal(tenant)
                tenant = await audit.waiting_tenant(self._database, tenant)
            total += round_
            if not round_:
                return total
            await asyncio.sleep(0)

    async def run(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look every ``look_seconds`` until cancelled, less often while nothing is to do; what fails is tried again."""
        while True:
            busy = True
            try:
                busy = await self.tick() > 0
            except StoreUnavailable as error:
                _log.warning("sealing_failed", error=error.message)
            except Exception:  # noqa: BLE001  # one broken look must not end all sealing; the log has it
                _log.exception("sealing_broke")
            await asyncio.sleep(look_seconds if busy else IDLE_LOOKS * look_seconds)

    async def _seal(self, tenant: str) -> int:
        """Seal one batch; 0: nothing waits, or another process is sealing this tenant."""
        async with self._database.unit() as unit:
            head = await audit.take_head(unit, tenant, GENESIS)
            if head is None:
                return 0
            rows = await audit.unsealed(unit, tenant, self._batch)
            for row in rows:
                placed = sealed(row, head)
                await audit.seal(unit, placed)
                head = Mark(head.seq + 1, placed.hash or "")
            if rows:
                await audit.move_head(unit, tenant, head)
        if rows:
            self._count(len(rows))
            _log.debug("sealed", tenant=tenant, records=len(rows), seq=head.seq)
        return len(rows)
