"""Whether this process should get traffic (P5)."""

from __future__ import annotations

import asyncio

from contracts.access import DEFAULT_TENANT
from contracts.errors import StoreUnavailable
from store.connect import Database
from store.runs import run_row


class ServiceHealth:
    """Ready while the database answers and the process is not going down."""

    def __init__(self, database: Database, *, timeout_seconds: float = 2.0) -> None:
        """Take the database; ``draining`` is set by whoever stops the process."""
        self._database = database
        self._timeout_seconds = timeout_seconds
        self.draining = False

    async def problems(self) -> list[str]:
        """Return what speaks against traffic: ``draining``, ``database``."""
        found = ["draining"] if self.draining else []
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await run_row(self._database, DEFAULT_TENANT, "readiness")
        except (StoreUnavailable, TimeoutError):
            found.append("database")
        return found
