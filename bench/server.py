"""A flex service as a child process, and the barest HTTP client that can time it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

HERE = Path(__file__).parent
WIDE: dict[str, Any] = {
    "max_plan_nodes": 20_000, "max_plan_edges": 100_000, "max_plan_fan_out": 20_000, "max_plan_depth": 20_000,
    "max_plan_seconds": 1e6,
}  # fmt: skip
"""Settings for plans that are larger than a service takes unless it is told to."""
_LIMITS = {f"FLEX_{name.upper()}": str(value) for name, value in WIDE.items()}
_SERVING = re.compile(rb'"address":\s*"http://127\.0\.0\.1:(\d+)"')


@contextmanager
def service(url: str) -> Iterator[tuple[int, int]]:
    """Serve on a free port; yield (port, pid). Ended by its own pid."""
    command = [str(Path(sys.executable).with_name("flex")), "serve", "--port", "0", "--database-url", url]
    command += ["--capabilities", str(HERE / "capabilities.py")]
    environment = {**os.environ, "FLEX_LOG_FORMAT": "json", **_LIMITS}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    try:
        yield _port(process), process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes]) -> int:
    said = []
    for line in process.stdout or ():
        said.append(line)
        found = _SERVING.search(line)
        if found:
            # A pipe that nobody reads is full after some hundred lines, and whoever writes to it stands still.
            Thread(target=_drain, args=(process,), daemon=True).start()
            return int(found[1])
    raise RuntimeError(b"".join(said).decode(errors="replace"))


def _drain(process: subprocess.Popen[bytes]) -> None:
    for _ in process.stdout or ():
        pass


class Client:
    """One keep-alive connection that sends a request and reads one JSON answer."""

    def __init__(self, port: int) -> None:
        """Connect on first use."""
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the parsed answer; raises on a status of 400 or more."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        writer.write(request(method, path, data))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        answer = await reader.readexactly(int(length[1])) if length else b""
        status = int(head[9:12])
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer[:500].decode()}")
        return json.loads(answer) if answer else None

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


def request(method: str, path: str, data: bytes = b"", accept: str = "application/json") -> bytes:
    """Return the bytes of a request."""
    kind = b"Content-Type: application/json\r\n" if data else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + kind + b"\r\n" + data


class Viewer(asyncio.Protocol):
    """Counts frames; says when the first and the terminal one came (monotonic seconds)."""

    def __init__(self, head: bytes) -> None:
        """Send ``head`` when connected."""
        self._head = head
        self.frames = 0
        self.first = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        self._tail = b""

    def connection_made(self, transport: Any) -> None:
        """Ask."""
        self._transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        """Count what begins in this piece; a line cut in two is counted once."""
        piece = self._tail + data
        self.frames += piece.count(b"\nid: ")
        self._tail = piece[-4:] if not piece.endswith(b"\nid: ") else b""
        if self.frames and not self.first.done():
            self.first.set_result(time.monotonic())
        if b'"type":"complete"' in piece and not self.ended.done():
            self.ended.set_result(time.monotonic())

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail whoever still waits."""
        for future in (self.first, self.ended):
            if not future.done():
                future.set_exception(ConnectionError("closed early"))
                future.exception()

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()
