"""Shielding: whether so many runs wait that new ones are refused before their body is read (F12)."""

from __future__ import annotations

import asyncio

import structlog

from contracts.errors import StoreUnavailable
from store.connect import Database
from store.runs import backlog

_log = structlog.get_logger(__name__)
LOOK_SECONDS = 0.5
IDLE_SECONDS = 2.0
"""between two looks while nothing waits: an idle service is to cost next to nothing"""


class Backlog:
    """Looks twice a second while runs wait, so that asking costs nothing; the count stops one past the limit."""

    def __init__(self, database: Database, limit: int) -> None:
        """Refuse once more than ``limit`` runs wait."""
        self._database, self._limit = database, limit
        self.size = 0

    def busy(self) -> bool:
        """Say whether new work is refused for now."""
        return self.size > self._limit

    async def look(self) -> None:
        """Count now."""
        try:
            self.size = await backlog(self._database, self._database.clock.now_ms(), self._limit + 1)
        except StoreUnavailable:
            _log.warning("backlog_unknown", size=self.size)

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS if self.size else IDLE_SECONDS)
