"""LISTEN/NOTIFY on a PostgreSQL connection of its own: small texts to the other processes, some of which may be lost.

Nothing here is part of a transaction: a notification is sent after the commit it speaks of, and a lost one is found by
the ticks of whoever waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import structlog
from sqlalchemy.engine import make_url

_log = structlog.get_logger(__name__)

PAYLOAD_BYTES: Final = 7_900
"""PostgreSQL refuses payloads of 8,000 bytes and more."""
_RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0)
# The last one is what asyncpg raises on a connection whose server has just gone.
_AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

OnPayload = Callable[[str, str], None]
"""(channel, payload), called on the event loop for every notification that arrives, one's own included."""


class Notifier:
    """One connection that listens on ``channels`` and sends; it connects again by itself when it is lost."""

    def __init__(self, url: str, channels: Sequence[str], on_payload: OnPayload) -> None:
        """Remember where to; ``url`` is the ``postgresql+asyncpg`` URL of the database."""
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._channels = tuple(channels)
        self._on_payload = on_payload
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and listen; raises what asyncpg raises when the database cannot be reached."""
        await self._connect()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Stop listening and close the connection."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.remove_termination_listener(self._on_lost)
            try:
                await connection.close(timeout=2)
            except (*_AWAY, TimeoutError):
                connection.terminate()

    async def send(self, channel: str, payload: str) -> bool:
        """Send one notification; False when the connection is away and it is lost."""
        connection = self._connection
        if connection is None or connection.is_closed():
            return False
        try:
            await connection.fetchval("SELECT pg_notify($1, $2)", channel, payload)
        except _AWAY as error:
            _log.warning("notify_failed", channel=channel, error=str(error))
            connection.terminate()  # the keeper connects again
            return False
        return True

    async def _connect(self) -> None:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(self._dsn, timeout=10)
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._on_notification)
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(self._on_lost)
        self._lost.clear()
        self._connection = connection

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            self._connection = None
            _log.warning("notify_connection_lost")
            await self._reconnect()

    async def _reconnect(self) -> None:
        attempt = 0
        while self._connection is None:
            await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            attempt += 1
            try:
                await self._connect()
            except _AWAY as error:
                _log.info("notify_reconnect_failed", attempt=attempt, error=str(error))
        _log.info("notify_connection_back", attempts=attempt)

    def _on_notification(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._on_payload(channel, str(payload))

    def _on_lost(self, _connection: Any) -> None:
        self._lost.set()
