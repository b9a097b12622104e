"""Capabilities of the simulation, and the world that their effects happen in.

What a call does stands in its node's inputs: ``script`` has one word per attempt, the last one for all further ones;
``lands`` and ``seconds`` bound how long (virtual seconds) it takes until the call has its effect and until its answer
is back. A call that has begun has its effect, also when the process that made it dies meanwhile. What really happened
is kept in the ledger of the current simulation, which no crash touches.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from capabilities.authoring import capability, take
from capabilities.declarations import facet
from capabilities.registry import Registry
from contracts.capability import Ask, Bundle, CallContext, CapabilityError, Param
from contracts.outcome import Skip
from contracts.prompts import PromptKind, PromptSpec
from engine.kinds import kind_table
from planner.planner import SearchPlanner
from tests.simulation.loop import LANE, SimulatedLoop

ANY = facet("simulated_any", True, description="Whatever a call is given")
DONE = facet(
    "simulated_done",
    {
        "type": "object",
        "required": ["by", "ok", "list"],
        "properties": {"ok": {"type": "boolean"}, "list": {"type": "array"}},
    },
    description="What a call says of itself",
)
TAKES = {name: Param("simulated_any", required=False) for name in ("script", "lands", "seconds", "up", "item")}
WORDS = ("ok", "ok", "ok", "busy", "raise", "wrong", "hang", "fatal", "skip", "ask")
LEDGER: contextvars.ContextVar[Ledger] = contextvars.ContextVar("ledger")


@dataclass
class Call:
    """One call of a capability. ``applied``: its effect happened. ``refused``: it said itself that it did nothing.

    ``output`` is what it answered, if it did.
    """

    number: int
    process: str
    run_id: str
    node_id: str
    attempt: int
    key: str
    effects: str
    began: float
    applied: float | None = None
    ended: float | None = None
    refused: bool = False
    output: Any = None


@dataclass
class Ledger:
    """Everything that was called, in order, over all processes."""

    chance: random.Random
    loop: SimulatedLoop
    calls: list[Call] = field(default_factory=list)

    def begin(self, effects: str, context: CallContext) -> Call:
        call = Call(
            len(self.calls), LANE.get().name, context.run_id, context.node_id, context.attempt,
            context.idempotency_key, effects, self.loop.time(),
        )  # fmt: skip
        self.calls.append(call)
        return call

    def leave(self, call: Call, seconds: float) -> None:
        """Let the call have its effect some time from now, whatever becomes of its process."""
        self.loop.call_later(seconds, self._land, call, context=self.loop.outside.context)

    def _land(self, call: Call) -> None:
        call.applied = self.loop.time()

    def happened(self, run_id: str, node_id: str) -> bool:
        """Say whether the effect of a node has ever happened."""
        return any(call.applied is not None for call in self.calls if call.run_id == run_id and call.node_id == node_id)


async def _call(effects: str, bundle: Bundle, context: CallContext) -> Any:
    ledger = LEDGER.get()
    call = ledger.begin(effects, context)
    script = take(bundle, "script", ["ok"])
    word = script[min(context.attempt, len(script)) - 1]
    lands, seconds = (float(take(bundle, name, 0)) * ledger.chance.random() for name in ("lands", "seconds"))
    call.refused = word in ("busy", "fatal")
    if word == "busy":
        raise CapabilityError("busy", "Not now.", after_ms=context.attempt * 20)
    if word == "fatal":
        raise CapabilityError("fatal", "Never.", retryable=False)
    ledger.leave(call, lands)
    if lands:
        await asyncio.sleep(lands)
    if word == "raise":
        raise RuntimeError("fell over")
    if word == "hang":
        await asyncio.sleep(3_600)
    if seconds:
        await asyncio.sleep(seconds)
    call.ended = ledger.loop.time()
    if word == "skip":
        return Skip("nothing to do")
    if word == "ask":
        spec = PromptSpec(kind=PromptKind.QUESTION, question="Which?", answer_schema=dict(DONE.schema))  # type: ignore[arg-type]  # it is an object above
        return Ask(spec, state={"call": call.number})
    call.output = {"by": context.node_id, "call": call.number, "ok": ledger.chance.random() < 0.8, "list": [1, 2]}
    context.log("info", "done")
    return {"by": 1} if word == "wrong" else call.output


async def _answered(context: CallContext, state: Any, answer: Any) -> Any:
    return {"by": context.node_id, "ok": True, "list": [], "asked": state, "answer": answer}


@capability("sim.none", consumes=TAKES, produces=DONE)
async def none(bundle: Bundle, context: CallContext, **_inputs: Any) -> Any:
    """Leaves nothing behind; may run ahead of the commit."""
    return await _call("none", bundle, context)


@capability("sim.far", consumes=TAKES, produces=DONE, in_process=False)
async def far(bundle: Bundle, context: CallContext, **_inputs: Any) -> Any:
    """Leaves nothing behind, but leaves the process."""
    return await _call("none", bundle, context)


@capability("sim.idempotent", consumes=TAKES, produces=DONE, effects="idempotent", in_process=False)
async def idempotent(bundle: Bundle, context: CallContext, **_inputs: Any) -> Any:
    """May be called again with the same key."""
    return await _call("idempotent", bundle, context)


@capability("sim.once", consumes=TAKES, produces=DONE, effects="once", in_process=False)
async def once(bundle: Bundle, context: CallContext, **_inputs: Any) -> Any:
    """Must never happen twice by itself."""
    return await _call("once", bundle, context)


CALLABLE = (none, far, idempotent, once)
for _each in CALLABLE:
    _each.on_answer(_answered)


@cache
def registry() -> Registry:
    """The capabilities; they have no state of their own, so that all simulations share them."""
    return Registry(facets=(ANY, DONE), capabilities=CALLABLE)


@cache
def planner() -> SearchPlanner:
    """The real planner. It is pure, and remembers what it was asked."""
    return SearchPlanner(registry(), kind_table())
