"""Capabilities that remember: loaded by the tests' services, as an operator would load them."""

import asyncio
from typing import Any

from capabilities.authoring import CapabilityBase, capability
from capabilities.declarations import facet
from contracts.capability import Ask, Bundle, CallContext, CapabilityError, CapabilitySpec, Param
from contracts.prompts import PromptKind, PromptSpec

any_value = facet("memory_any", True, description="Whatever a test passes on")

CALLS: list[tuple[str, int]] = []
"""(node, attempt) of every body that began"""
GATES: dict[str, asyncio.Event] = {}
ARRIVED: dict[str, asyncio.Event] = {}
ANY = {"value": Param("memory_any", required=False)}


def gate(name: str) -> asyncio.Event:
    """What the body of a node of that name waits for, if it is told to."""
    return GATES.setdefault(name, asyncio.Event())


def arrived(name: str) -> asyncio.Event:
    """Set when such a body has begun."""
    return ARRIVED.setdefault(name, asyncio.Event())


@capability("memory.keep", consumes={"value": any_value}, produces=any_value)
async def keep(bundle: Bundle, context: CallContext) -> Any:
    """Remembers ``value.set`` (key → value) in ``value.scope``; then does as ``value.then`` says."""
    CALLS.append((context.node_id, context.attempt))
    told = bundle.inputs["value"]
    for key, value in told.get("set", {}).items():
        context.remember(told["scope"], key, value, told.get("expected"))
    for key in told.get("forget", ()):
        context.forget(told["scope"], key, told.get("expected"))
    then = told.get("then")
    if then == "fail":
        raise CapabilityError("no_luck", "It did not work.", retryable=False)
    if then == "fail_once" and context.attempt == 1:
        raise CapabilityError("no_luck", "It did not work yet.", after_ms=0)
    if then == "hold":
        arrived(context.node_id).set()
        await gate(context.node_id).wait()
    return dict(bundle.memory)


@capability("memory.count", consumes={"value": any_value}, produces=any_value)
async def count(bundle: Bundle, context: CallContext) -> Any:
    """Adds one to a number, but only to the one that it has read."""
    CALLS.append((context.node_id, context.attempt))
    scope = bundle.inputs["value"]
    number = bundle.memory[scope].get("n", 0) + 1
    context.remember(scope, "n", number, context.revision(scope, "n"))
    if context.node_id in GATES and context.attempt == 1:
        arrived(context.node_id).set()
        await gate(context.node_id).wait()
    return number


@capability("memory.sends", consumes={"value": any_value}, produces=any_value, effects="once", in_process=False)
async def sends(bundle: Bundle, context: CallContext) -> Any:
    """Does something that must not be repeated, and waits until the test lets go."""
    CALLS.append((context.node_id, context.attempt))
    told = bundle.inputs["value"]
    if isinstance(told, dict):
        context.remember(told["scope"], "sent", True, told.get("expected"))
    arrived(context.node_id).set()
    await gate(context.node_id).wait()
    return "sent"


@capability("memory.blocking", consumes={"value": any_value}, produces=any_value)
def blocking(value: dict[str, Any], context: CallContext) -> Any:
    """Remembers from a thread of its own."""
    context.remember(value["scope"], "k", "from a thread", context.revision(value["scope"], "k"))
    return "done"


class Asks(CapabilityBase):
    """Remembers something before it asks, and something after."""

    spec = CapabilitySpec("memory.asks", consumes=ANY, produces=("memory_any",))

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        CALLS.append((context.node_id, context.attempt))
        context.remember(bundle.inputs["value"], "before", 1)
        return Ask(PromptSpec(kind=PromptKind.QUESTION, question="Well?", answer_schema={"type": "string"}), state=2)

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        context.remember(bundle.inputs["value"], "after", [state, answer])
        return answer


asks = Asks()
