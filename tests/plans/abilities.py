"""Capabilities of the tests of plans in people's hands: slow ones, and one that notes what it was called with."""

import asyncio
from typing import Any

from capabilities.authoring import capability
from capabilities.declarations import facet
from contracts.capability import Bundle, CallContext

word = facet("plans_word", {"type": "string"}, description="A word that somebody waits for")
who = facet("plans_who", {"type": "string"}, description="Whose word it is")
any_value = facet("plans_any", True, description="Whatever a test passes on")

CALLED: list[tuple[str, dict[str, Any]]] = []
"""(idempotency key, inputs) of every call of ``plans.noted``, as the callee got them"""


@capability("plans.sleepy", consumes={"who": who}, produces=word, cost=1.0)
async def sleepy() -> str:
    """Is the cheaper one, and never comes to an end."""
    await asyncio.Event().wait()
    return "never"


@capability("plans.brisk", consumes={"who": who}, produces=word, cost=2.0)
async def brisk(who: str) -> str:
    """Answers at once."""
    return f"{who}!"


@capability("plans.noted", consumes={"value?": any_value, "more?": any_value}, produces=any_value)
async def noted(bundle: Bundle, context: CallContext) -> Any:
    """Notes what it was called with."""
    CALLED.append((context.idempotency_key, dict(bundle.inputs)))
    return bundle.inputs.get("value")
