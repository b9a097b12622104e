"""Taking over what other processes registered: a cheap look every second (F15)."""

from __future__ import annotations

import asyncio

import structlog

from contracts.errors import StoreUnavailable
from service.registrations import Registrations

_log = structlog.get_logger(__name__)
LOOK_SECONDS = 1.0


class RegisteredLook:
    """Looks at two counters; a look that fails changes nothing and is made again."""

    def __init__(self, registrations: Registrations) -> None:
        """Look on behalf of this process."""
        self._registrations = registrations

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._registrations.look()
            except StoreUnavailable:
                _log.warning("registrations_unknown")
            except Exception:  # noqa: BLE001  # one broken look must not end all looking; the log has it
                _log.exception("registrations_look_broke")
