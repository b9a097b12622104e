"""Running the service: bind, migrate, serve, and go down without losing anything (P5).

On SIGTERM: not ready any more, no new connections; open streams get ``stream_end`` (``draining``) and end; attempts get
``FLEX_DRAIN_SECONDS`` to end, what has not ended is given back for another process or the next start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Protocol

import structlog
import uvicorn
import uvloop
from sse_starlette.sse import AppStatus

from app.logs import configure
from app.settings import Settings, is_loopback, unknown_names
from routes.app import build
from routes.doors import Doors

_log = structlog.get_logger(__name__)


class Running(Protocol):
    """What the wiring opens: the doors, and how it goes down."""

    @property
    def doors(self) -> Doors:
        """What the routes call."""

    def begin_drain(self) -> None:
        """Be not ready, end the streams, take no new runs; returns at once."""

    async def drain(self, seconds: float) -> None:
        """Let attempts end, ``seconds`` at most, and give back the rest."""


Opener = Callable[[Settings], AbstractAsyncContextManager[Running]]
"""Opens everything for a process: migrated, started, and closed again at the end."""


class Server(uvicorn.Server):
    """uvicorn's server, which lets the streams end before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None], on_started: Callable[[int], None]) -> None:
        """Remember whom to tell of the stop, and of the start (with the port)."""
        self._told = asyncio.Event()
        self._ending = False
        super().__init__(config)
        self._on_stop = on_stop
        self._on_started = on_started

    @property
    def should_exit(self) -> bool:
        """Say whether the server is to stop; setting it wakes the server at once."""
        return self._ending

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._ending = value
        if value:
            self._told.set()

    async def main_loop(self) -> None:
        """Tick once a second: ten ticks, as uvicorn has them, are a third of what an idle service costs."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._told.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT. Unlike uvicorn's own, it does not raise them again before we have drained."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening and say so."""
        await super().startup(sockets)
        if self.started and self.servers:
            self._on_started(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then wait for what is under way."""
        self._on_stop()
        await super().shutdown(sockets)


async def serve(settings: Settings, opener: Opener, *, on_started: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; raises :class:`app.settings.InsecureBind` before anything is opened.

    ``on_started`` is called with the port once connections are taken.
    """
    settings.check_bind()
    _say_what_is_odd(settings)
    # Our own drain ends streams with a frame that says so; the library's would cut them off first.
    AppStatus.enable_automatic_graceful_drain = False
    async with opener(settings) as running:
        server = Server(_config(settings, running.doors), running.begin_drain, on_started or _announce(settings))
        await server.serve()
        await running.drain(settings.drain_seconds)
    _log.info("stopped")


def run(settings: Settings, opener: Opener) -> None:
    """Set up logging and serve on uvloop until told to stop: what ``flex serve`` does."""
    configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, opener))


def _config(settings: Settings, doors: Doors) -> uvicorn.Config:
    return uvicorn.Config(
        build(doors),
        host=settings.host,
        port=settings.port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )


def _say_what_is_odd(settings: Settings) -> None:
    for name, meant in unknown_names(os.environ).items():
        _log.warning("unknown_setting", name=name, meant=meant)
    if is_loopback(settings.host):
        _log.info(
            "local_only", host=settings.host, why="Callers are not authenticated, so only this machine can reach it."
        )
    else:
        _log.warning(
            "insecure_bind", host=settings.host, why="Callers are not authenticated: each of them has every role."
        )


def _announce(settings: Settings) -> Callable[[int], None]:
    def announce(port: int) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        _log.info("serving", address=f"http://{host}:{port}", docs=f"http://{host}:{port}/docs", pid=os.getpid())

    return announce
