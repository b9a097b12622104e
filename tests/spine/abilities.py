"""Capabilities the spine tests bring along, as an operator would: one file, loaded by ``FLEX_CAPABILITIES``.

Nothing here sleeps to make something likely: ``spine.held`` waits until the test lets it go, by name.
"""

import asyncio
import threading
from pathlib import Path
from typing import Any

from capabilities.authoring import CapabilityBase, capability, take
from capabilities.declarations import facet
from contracts.capability import Ask, Bundle, CallContext, CapabilityError, CapabilitySpec, Param, Result
from contracts.outcome import Usage
from contracts.prompts import PromptKind, PromptSpec

any_value = facet("spine_any", True, description="Whatever a test passes on")
who = facet("spine_who", {"type": "string"}, description="Whom to greet")
greeting = facet("spine_greeting", {"type": "string"}, description="A greeting in words")
pair = facet("spine_pair", {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}}})
number = facet("spine_number", {"type": "integer"}, description="A number that somebody has to guess")

CALLS: list[tuple[str, str, int]] = []
"""(capability, node, attempt) of every body that began, in order; ``…/2`` is the half after an answer."""
SEEN: list[list[Any]] = []
"""the ``errors`` of the bundles of ``spine.pleases``"""
KEYS: list[str] = []
"""idempotency keys of ``spine.flaky``"""
GATES: dict[str, asyncio.Event] = {}
THREAD_GATES: dict[str, threading.Event] = {}
ARRIVED: dict[str, asyncio.Event] = {}
ANY = {"value": Param("spine_any", required=False)}


def gate(name: str) -> asyncio.Event:
    """The event that ``spine.held`` of that name waits for."""
    return GATES.setdefault(name, asyncio.Event())


def arrived(name: str) -> asyncio.Event:
    """Set when ``spine.held`` of that name has begun."""
    return ARRIVED.setdefault(name, asyncio.Event())


def thread_gate(name: str) -> threading.Event:
    """What ``spine.blocking`` of that name waits for."""
    return THREAD_GATES.setdefault(name, threading.Event())


def _note(name: str, context: CallContext) -> None:
    CALLS.append((name, context.node_id, context.attempt))


@capability("spine.noop", consumes={"value?": any_value}, produces=any_value)
async def noop(bundle: Bundle, context: CallContext) -> Any:
    """Passes its value on."""
    _note("noop", context)
    return bundle.inputs.get("value", 0)


@capability("spine.greet", consumes={"who": who}, produces=greeting, cost=2.0)
async def greet(who: str, context: CallContext) -> str:
    """Greets well."""
    _note("greet", context)
    return f"Good morning, {who}!"


@capability("spine.mumble", consumes={"who": who}, produces=greeting, cost=1.0)
async def mumble(context: CallContext) -> str:
    """Greets badly, and is cheaper."""
    _note("mumble", context)
    return "hm"


@capability("spine.guess", consumes={"who": who}, produces=number)
async def guess(context: CallContext) -> int:
    """Has an answer that needs no model."""
    _note("guess", context)
    return 7


@capability("spine.flaky", consumes={"value?": any_value}, produces=any_value)
async def flaky(bundle: Bundle, context: CallContext) -> Any:
    """Fails as often as ``value`` says, then works."""
    _note("flaky", context)
    KEYS.append(context.idempotency_key)
    if context.attempt <= bundle.inputs["value"]:
        raise CapabilityError("wobbly", f"Attempt {context.attempt} fell over.", after_ms=0)
    return "steady"


@capability("spine.pleases", consumes={"value?": any_value}, produces=any_value)
async def pleases(bundle: Bundle, context: CallContext) -> Any:
    """Gives the first of ``value`` first, the second second …; remembers what it was told was wrong."""
    _note("pleases", context)
    SEEN.append(list(bundle.errors))
    offers = bundle.inputs["value"]
    return offers[min(context.attempt, len(offers)) - 1]


@capability("spine.raises", consumes={"value?": any_value}, produces=any_value)
async def raises(bundle: Bundle, context: CallContext) -> Any:
    """Raises what ``value`` names."""
    _note("raises", context)
    kind = bundle.inputs.get("value")
    if kind == "final":
        raise CapabilityError("no_such_customer", "There is no customer 7.", retryable=False)
    if kind == "cancelled":
        raise asyncio.CancelledError
    if kind == "timeout":
        raise TimeoutError("an inner one")
    if kind == "exit":
        raise SystemExit(3)
    raise RuntimeError("a secret detail of the inside")


@capability("spine.held", consumes={"value": any_value}, produces=any_value)
async def held(value: str, context: CallContext) -> Any:
    """Works until the test lets go."""
    _note("held", context)
    arrived(value).set()
    try:
        await gate(value).wait()
    except asyncio.CancelledError:
        CALLS.append(("held:cancelled", context.node_id, context.attempt))
        raise
    return value


@capability("spine.stumbles", consumes={"value": any_value}, produces=any_value)
async def stumbles(value: str, context: CallContext) -> Any:
    """Waits until the test lets go, and then falls over, the first time."""
    _note("stumbles", context)
    if context.attempt == 1:
        arrived(value).set()
        await gate(value).wait()
        raise CapabilityError("wobbly", "It fell over.")
    return value


@capability("spine.second_time", consumes={"value": any_value}, produces=any_value)
async def second_time(value: str, context: CallContext) -> Any:
    """Fails for good the first time anybody asks it for this value."""
    _note("second_time", context)
    if value not in ARRIVED:
        arrived(value)
        raise CapabilityError("not_yet", "Not the first time.", retryable=False)
    return value


@capability("spine.blocking", consumes={"value": any_value}, produces=any_value)
def blocking(value: str, context: CallContext) -> Any:
    """Blocks its thread until the test lets go."""
    _note("blocking", context)
    thread_gate(value).wait(30)
    return value


@capability("spine.big", consumes={"value": any_value}, produces=any_value)
async def big(value: int, context: CallContext) -> Any:
    """Gives a text of ``value`` characters."""
    _note("big", context)
    return "x" * value


@capability("spine.costly", consumes={"value?": any_value}, produces=any_value)
async def costly(bundle: Bundle, context: CallContext) -> Any:
    """Spends 100 tokens and a coin."""
    _note("costly", context)
    return Result("spent", Usage(tokens=100, cost=1.0))


@capability("spine.once", consumes={"value": any_value}, produces=any_value, effects="once", in_process=False)
async def once(value: dict[str, Any], context: CallContext) -> Any:
    """Writes one line into a file per call, then does as ``then`` says."""
    _note("once", context)
    with Path(value["file"]).open("a") as book:
        book.write(f"{context.idempotency_key}\n")
    if value.get("then") == "raise":
        raise ConnectionResetError("the other side went away")
    if value.get("then") == "hold":
        arrived("once").set()
        await gate("once").wait()
    return "sent"


@capability("spine.talks", consumes={"value?": any_value}, produces=any_value)
async def talks(context: CallContext) -> Any:
    """Speaks while it works."""
    _note("talks", context)
    for piece in ("one ", "two ", "three"):
        context.delta(piece)
    context.log("info", "three words")
    await gate("talks").wait()
    return "one two three"


class Asks(CapabilityBase):
    """Asks from inside its work."""

    spec = CapabilitySpec("spine.asks", consumes=ANY, produces=("spine_any",))

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        _note("asks", context)
        spec = PromptSpec(
            kind=PromptKind.QUESTION,
            question="How many?",
            answer_schema={"type": "integer", "minimum": 1},
            proposed=take(bundle, "value", None),
        )
        return Ask(spec, state={"half": "done", "by": context.idempotency_key})

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        CALLS.append(("asks/2", context.node_id, context.attempt))
        assert state == {"half": "done", "by": context.idempotency_key}
        return {"state": state["half"], "answer": answer}


asks = Asks()
