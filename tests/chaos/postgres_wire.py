"""As much of PostgreSQL's protocol as a proxy needs to see a commit flying by (protocol 3.0, chapter 54)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
READY_FOR_QUERY = b"Z"
WRITES = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class Message:
    """One message of a client. ``runs`` is the statement that the server will run for it, if any."""

    data: bytes
    runs: str = ""
    inside: bool = False
    """whether a transaction was open before it"""

    @property
    def writes(self) -> bool:
        """Whether it changes rows."""
        return self.runs.startswith(WRITES) or (self.runs.startswith("WITH") and "UPDATE" in self.runs)

    @property
    def commits(self) -> bool:
        """Whether it ends in a commit: it says so, or it writes outside of a transaction."""
        return self.runs.startswith("COMMIT") or (self.writes and not self.inside)


@dataclass
class Frontend:
    """What a client says, message by message; remembers its prepared statements and whether a transaction is open."""

    plain: bool = False
    """whether the startup message has passed, after which every message begins with its type"""
    inside: bool = False
    _rest: bytes = b""
    _prepared: dict[bytes, str] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield whole messages."""
        self._rest += data
        while message := self._next():
            runs = self._runs(message)
            yield Message(message, runs, self.inside)
            if runs.startswith("BEGIN"):
                self.inside = True
            elif runs.startswith(("COMMIT", "ROLLBACK")):
                self.inside = False

    def _next(self) -> bytes:
        head = 1 if self.plain else 0
        if len(self._rest) < head + 4:
            return b""
        (length,) = struct.unpack_from("!i", self._rest, head)
        if len(self._rest) < head + length:
            return b""
        message, self._rest = self._rest[: head + length], self._rest[head + length :]
        if not self.plain:
            (code,) = struct.unpack_from("!i", message, 4)
            self.plain = code not in (SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST)
        return message

    def _runs(self, message: bytes) -> str:
        kind, body = message[:1], message[5:]
        if kind == b"Q":
            return _text(body)
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            self._prepared[name] = _text(rest)
        if kind == b"B":
            _portal, _, rest = body.partition(b"\0")
            return self._prepared.get(rest.partition(b"\0")[0], "")
        return ""


def _text(sql: bytes) -> str:
    return sql.partition(b"\0")[0].decode(errors="replace").upper().lstrip()


class Backend:
    """What the server said: counts how often it was ready for more."""

    def __init__(self) -> None:
        self.ready = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take what came (after the startup phase's single byte)."""
        self._rest += data
        while len(self._rest) >= 5:
            (length,) = struct.unpack_from("!i", self._rest, 1)
            if len(self._rest) < 1 + length:
                return
            self.ready += self._rest[:1] == READY_FOR_QUERY
            self._rest = self._rest[1 + length :]
