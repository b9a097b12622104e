"""Text as it is produced: sent at once, but never before the start of its attempt was committed (F7, F9)."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.events import Frame, NodeDelta, encode
from engine.shell import Shell
from engine.state import RunState

_HELD_CHARACTERS = 256 * 1024


class Deltas:
    """The ephemeral frames of one run. Offsets count the characters an attempt has sent."""

    __slots__ = ("_held", "_offsets", "_shell", "_state")

    def __init__(self, state: RunState, shell: Shell) -> None:
        """Send for one run."""
        self._state, self._shell = state, shell
        self._offsets: dict[tuple[str, int], int] = {}
        self._held: dict[str, list[NodeDelta]] = {}

    def hold(self, node_ids: Iterable[str]) -> None:
        """Keep the text of attempts that run ahead of the commit."""
        for node_id in node_ids:
            self._held[node_id] = []

    def let_go(self, node_ids: Iterable[str]) -> None:
        """The starts are committed: send what was kept."""
        for node_id in node_ids:
            for delta in self._held.pop(node_id, ()):
                self._publish(node_id, delta)

    def send(self, node_id: str, attempt: int, text: str) -> None:
        """Send a piece of text; while it is held back, at most 256 KiB characters are kept."""
        offset = self._offsets.get((node_id, attempt), 0)
        self._offsets[node_id, attempt] = offset + len(text)
        delta = NodeDelta(attempt, offset, text)
        held = self._held.get(node_id)
        if held is None:
            self._publish(node_id, delta)
        elif offset < _HELD_CHARACTERS:
            held.append(delta)

    def _publish(self, node_id: str, delta: NodeDelta) -> None:
        data = encode(
            delta,
            seq=None,
            at_ms=self._shell.clock.now_ms(),
            run_id=self._state.run_id,
            correlation_id=self._state.correlation_id,
            node_id=node_id,
        )
        self._shell.feed.publish_ephemeral(self._state.run_id, Frame(None, NodeDelta.type, data))
