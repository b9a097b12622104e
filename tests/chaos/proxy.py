"""Between flex and PostgreSQL: passes everything on, cuts a connection when it sees a commit flying by, or parts them.

It runs on a loop of its own in a thread, so that a harness that is busy delays nobody. Where it cuts:

``before``  the commit never reaches the server
``inside``  half of its bytes do
``racing``  it reaches the server, and the client is gone at once
``after``   the server has answered, and the answer is lost: the client cannot know

Parted, it holds back everything both sides say and lets it through when they are joined again, so what was on its way
arrives late; or it resets every connection and takes no new one until then.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Self

from tests.chaos.postgres_wire import Backend, Frontend, Message
from tests.postgres import HOST, free_port

MOMENTS: Final = ("before", "inside", "racing", "after")
CHUNK: Final = 65_536
ANSWER_SECONDS: Final = 5.0


class Cut(Exception):
    """This connection ends here."""


class Proxy:
    """Listens on ``port`` and passes on to the server at ``upstream``; a context manager."""

    def __init__(self, upstream: int, seed: str) -> None:
        self.port = free_port()
        self.cuts = Counter[str]()
        self.cut_at: list[float] = []
        """wall times, ms"""
        self._upstream, self._chance = upstream, random.Random(seed)
        self._wanted = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._joined = asyncio.Event()
        self._joined.set()
        self._refuses = False
        self._part_in = ""

    def part(self, *, silently: bool) -> None:
        """Part the two until :meth:`join`: nothing comes through, or (not ``silently``) connections are reset."""
        self._do(self._part(silently=silently))

    def join(self) -> None:
        """Let everything through again, first what was held back."""
        self._do(self._join())

    def part_inside(self, table: str) -> None:
        """Part the two in the middle of the next transaction that writes this table: its locks stay."""
        self._part_in = f"UPDATE {table.upper()}"

    @property
    def parted(self) -> bool:
        """Whether nothing comes through now."""
        return not self._joined.is_set()

    def parts_after(self, message: Message) -> bool:
        """Whether this is the statement to part after; called on the proxy's loop."""
        if not self._part_in or not message.inside or not message.runs.startswith(self._part_in):
            return False
        self._part_in = ""
        self._joined.clear()
        return True

    async def through(self) -> None:
        """Wait while the two are parted."""
        await self._joined.wait()

    async def _part(self, *, silently: bool) -> None:
        self._part_in = ""
        self._refuses = not silently
        if silently:
            self._joined.clear()
        else:
            for task in self._connections:
                task.cancel()

    async def _join(self) -> None:
        self._refuses = False
        self._part_in = ""
        self._joined.set()

    def arm(self, count: int) -> None:
        """Cut the connections of that many commits to come; 0 disarms."""
        self._wanted = count

    @property
    def armed(self) -> int:
        """How many cuts are still to come."""
        return self._wanted

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_error: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, HOST, self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._refuses:
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # it was told to go; asyncio's own wrapper of this task would report it as an error
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            return
        link = _Link(self, reader, writer, server_reader, server_writer)
        ways = [asyncio.ensure_future(link.forth()), asyncio.ensure_future(link.back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server_writer.transport.abort()

    def moment(self) -> str | None:
        """Whether to cut at the commit that is here now, and when exactly."""
        if self._wanted <= 0:
            return None
        self._wanted -= 1
        moment = self._chance.choice(MOMENTS)
        self.cuts[moment] += 1
        self.cut_at.append(time.time() * 1_000)
        return moment


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, *ends: Any) -> None:
        self._proxy = proxy
        self._client: tuple[asyncio.StreamReader, asyncio.StreamWriter] = (ends[0], ends[1])
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] = (ends[2], ends[3])
        self._frontend, self._backend = Frontend(), Backend()
        self._deaf = False
        self._answered = asyncio.Event()

    async def forth(self) -> None:
        """Client to server, message by message."""
        with suppress(OSError, Cut):
            while data := await self._client[0].read(CHUNK):
                for message in self._frontend.feed(data):
                    await self._proxy.through()
                    moment = self._proxy.moment() if message.commits else None
                    if moment is not None:
                        await self._cut(message.data, moment)
                    if self._proxy.parts_after(message):
                        await self._part_after(message.data)
                    else:
                        self._server[1].write(message.data)
                await self._server[1].drain()

    async def _cut(self, message: bytes, moment: str) -> None:
        writer = self._server[1]
        if moment == "before":
            raise Cut
        if moment == "inside":
            writer.write(message[: len(message) // 2])
            await writer.drain()
            raise Cut
        # A statement that was prepared is run by three messages; the rest of them is on its way or here already.
        self._deaf = True
        self._answered.clear()
        writer.write(message + _rest_of(message))
        await writer.drain()
        if moment == "after":
            with suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), ANSWER_SECONDS)
        raise Cut

    async def _part_after(self, message: bytes) -> None:
        """The server gets the statement and holds what it locks; the commit that follows is held back."""
        self._server[1].write(message + _rest_of(message))
        await self._server[1].drain()
        # The client's own Execute and Sync follow in the same packet: the server may hear them twice, later.
        await self._proxy.through()
        raise Cut

    async def back(self) -> None:
        """Server to client; once deaf, only to see that it answered."""
        with suppress(OSError):
            while data := await self._server[0].read(CHUNK):
                self._see(data)
                await self._proxy.through()
                if not self._deaf:
                    self._client[1].write(data)
                    await self._client[1].drain()

    def _see(self, data: bytes) -> None:
        if not self._frontend.plain:
            return  # the single byte that answers a request for encryption
        before = self._backend.ready
        self._backend.feed(data)
        if self._backend.ready > before:
            self._answered.set()


def _rest_of(message: bytes) -> bytes:
    """What runs a bound statement: Execute (all rows) and Sync, as the client would send them next."""
    return b"" if message[:1] == b"Q" else b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04"
