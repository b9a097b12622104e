"""``human.provide``: people give what no capability can; the form is the node's own contract (H2, wire §6 R7)."""

from __future__ import annotations

from typing import Any, Final

from capabilities.authoring import CapabilityBase
from contracts.capability import Ask, Bundle, CallContext, CapabilitySpec
from contracts.prompts import OPERATORS, PromptKind, PromptSpec

_MAX_QUESTION: Final = 4_000


class HumanProvide(CapabilityBase):
    """Asks a question whose answer is the output. Always active; the planner takes it only as a last resort."""

    spec = CapabilitySpec(
        "human.provide",
        description="Asks people to fill in a form.",
        latency_ms=3_600_000,
        quality=1.0,
        generic=True,
        requires=("people",),
    )

    async def run(self, bundle: Bundle, context: CallContext) -> Ask:
        """Ask operators for a value that fits the contract; the inputs, if any, are shown along with it."""
        contract = bundle.contract if isinstance(bundle.contract, dict | bool) else {}
        title = contract.get("title") if isinstance(contract, dict) else None
        wanted = title if isinstance(title, str) and title.strip() else "what is missing"
        question = f"Please provide {wanted} for: {bundle.objective}"
        return Ask(
            PromptSpec(
                kind=PromptKind.QUESTION,
                question=question if len(question) <= _MAX_QUESTION else question[: _MAX_QUESTION - 1] + "…",
                proposed=dict(bundle.inputs) or None,
                answer_schema=contract,
                assignees=OPERATORS,
            )
        )

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        """Return the answer."""
        return answer
