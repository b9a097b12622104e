"""A call context that keeps what it was told, and bundles with everything left out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from capabilities.registry import Registry
from contracts.capability import Bundle, Result


@dataclass
class Call:
    """A :class:`contracts.capability.CallContext`."""

    run_id: str = "run_1"
    node_id: str = "node"
    attempt: int = 1
    idempotency_key: str = "run_1/node/0/0"
    deltas: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    remembered: list[tuple[str, str, Any, int | None]] = field(default_factory=list)

    def delta(self, text: str) -> None:
        self.deltas.append(text)

    def log(self, level: str, message: str) -> None:
        self.lines.append((level, message))

    def remember(self, scope: str, key: str, value: Any, expected_revision: int | None = None) -> None:
        self.remembered.append((scope, key, value, expected_revision))

    def forget(self, scope: str, key: str, expected_revision: int | None = None) -> None:
        self.remembered.append((scope, key, None, expected_revision))

    def revision(self, scope: str, key: str) -> int:
        return 0


def bundle(
    inputs: Mapping[str, Any] | None = None,
    *,
    objective: str = "Say it",
    contract: Any = True,
    instructions: Sequence[str] = (),
    errors: Sequence[Mapping[str, Any]] = (),
    directives: Mapping[str, Any] | None = None,
) -> Bundle:
    return Bundle(objective, inputs or {}, {}, directives or {}, instructions, [], {}, contract, 1, errors)


async def run(registry: Registry, capability_id: str, inputs: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """Run a registered capability once and return its plain output."""
    capability = registry.find(capability_id)
    assert capability is not None, f"{capability_id} is not active"
    said = await capability.run(bundle(inputs, **more), Call())
    return said.output if isinstance(said, Result) else said


async def beats_while(work: Awaitable[Any], release: Callable[[], None], beats: int = 50) -> Any:
    """Await ``work``, calling ``release`` once the event loop has turned ``beats`` times beside it.

    A call that blocks the loop never lets it turn, so ``release`` is never called and the test's timeout ends it.
    """
    task = asyncio.ensure_future(work)
    for _ in range(beats):
        await asyncio.sleep(0)
    assert not task.done()
    release()
    return await asyncio.wait_for(task, 10)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until the condition holds."""
    for _ in range(5_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")
