"""Taking over which flows other processes published as capabilities: a cheap look every second (W2)."""

from __future__ import annotations

import asyncio

import structlog

from contracts.errors import StoreUnavailable
from service.offering import Offering

_log = structlog.get_logger(__name__)
LOOK_SECONDS = 1.0


class OffersLook:
    """Looks at one number; a look that fails changes nothing and is made again."""

    def __init__(self, offering: Offering) -> None:
        """Look on behalf of this process."""
        self._offering = offering

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._offering.look()
            except StoreUnavailable:
                _log.warning("offers_unknown")
            except Exception:  # noqa: BLE001  # one broken look must not end all looking; the log has it
                _log.exception("offers_look_broke")
