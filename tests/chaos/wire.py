"""HTTP as a lean client speaks it: thousands of short connections must not cost more than the service that answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

LIMIT_BYTES = 4 * 1024 * 1024
CONNECT_SECONDS = 2.0


class Broken(Exception):
    """Nobody answered, the connection ended too early, or nothing came for too long."""


@dataclass(frozen=True)
class Answer:
    """What came back; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Incoming:
    """An answer whose body is still coming."""

    def __init__(self, reader: asyncio.StreamReader, answer: Answer, patience: float) -> None:
        self.answer, self._reader, self._patience = answer, reader, patience
        self._chunked = answer.headers.get("transfer-encoding") == "chunked"
        self._left = int(answer.headers.get("content-length", "0"))

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the body line by line, without line ends; Broken when nothing comes for longer than the patience."""
        rest = b""
        while piece := await self._piece():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line

    async def whole(self) -> bytes:
        """Return the whole body."""
        pieces = []
        while piece := await self._piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def _piece(self) -> bytes:
        async with _patient(self._patience):
            if not self._chunked:
                piece = await self._reader.readexactly(self._left)
                self._left = 0
                return piece
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            piece = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            return piece


@asynccontextmanager
async def _patient(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:  # TimeoutError is an OSError
        raise Broken(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def opened(
    base: str,
    method: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    patience: float = 10.0,
) -> AsyncIterator[Incoming]:
    """Send a request and yield the answer as soon as its headers are there; raises :class:`Broken`."""
    host = base.removeprefix("http://")
    name, _, port = host.partition(":")
    async with _patient(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(name, int(port), limit=LIMIT_BYTES)
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        said = {"Host": host, "Connection": "close", "Content-Length": str(len(payload)), **kind, **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        async with _patient(patience):
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + payload)
            await writer.drain()
            answer = _head(await reader.readuntil(b"\r\n\r\n"))
        yield Incoming(reader, answer, patience)
    finally:
        writer.close()


def _head(text: bytes) -> Answer:
    first, *rest = text.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.split(":", 1) for line in rest)
    return Answer(int(first.split(" ")[1]), {name.strip().lower(): value.strip() for name, value in pairs})


async def request(base: str, method: str, path: str, **more: Any) -> Answer:
    """Send a request and return the whole answer; raises :class:`Broken`."""
    async with opened(base, method, path, **more) as incoming:
        return Answer(incoming.answer.status, incoming.answer.headers, await incoming.whole())
