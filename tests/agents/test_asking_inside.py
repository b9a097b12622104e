"""A PocketFlow flow that asks people: what is kept, where it goes on, and what it refuses (H2, R2)."""

# mypy: disable-error-code="misc"

from typing import Any

import pytest
from pocketflow import AsyncFlow, AsyncNode, Flow, Node

from capabilities import Ask, CapabilityError, PromptSpec
from capabilities.pocketflow import PocketFlowCapability, from_pocketflow
from tests.capabilities.calls import Call, bundle

QUESTION = PromptSpec(question="How many?", answer_schema={"type": "integer"})


class Asks(Node):
    """Asks, and leaves something behind."""

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        shared["before"] = shared.get("before", 0) + 1
        shared["result"] = Ask(QUESTION)
        return "asked"


class Doubles(Node):
    """Goes on with the answer, in a thread."""

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> None:
        shared["result"] = [shared["answer"] * 2, shared["before"], shared["bundle"].objective]


class Waits(AsyncNode):
    """Asks from the event loop."""

    async def post_async(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        shared["before"], shared["result"] = 1, Ask(QUESTION)
        return "asked"


def flow_of(kind: Any, first: Any) -> PocketFlowCapability:
    first >> Doubles()
    return from_pocketflow(kind(start=first), capability_id="pf.asks")


@pytest.mark.parametrize(("kind", "first"), [(Flow, Asks), (AsyncFlow, Waits), (AsyncFlow, Asks)])
async def test_a_flow_goes_on_at_the_next_node(kind: Any, first: Any) -> None:
    """H2, R2: in another process too, since all that is kept is JSON."""
    asked = await flow_of(kind, first()).run(bundle({"x": 1}), Call())
    assert isinstance(asked, Ask)
    assert asked.prompt is QUESTION
    assert asked.state["shared"] == {"x": 1, "before": 1}
    said = await flow_of(kind, first()).resume(bundle({"x": 1}), Call(), asked.state, 21)
    assert said == [42, 1, "Say it"]


async def test_without_a_next_node_the_answer_is_the_result() -> None:
    for root in (Asks(), Flow(start=Asks())):
        alone = from_pocketflow(root, capability_id="pf.asks")
        asked = await alone.run(bundle(), Call())
        assert await alone.resume(bundle(), Call(), asked.state, 7) == 7


async def test_what_no_database_keeps_is_refused_by_name() -> None:
    """H1: a question lives in rows, so whatever goes on must fit into one."""

    class Holds(Asks):
        def prep(self, shared: dict[str, Any]) -> None:
            shared["client"] = object()

    with pytest.raises(CapabilityError, match=r"shared\['client'\] is object") as refused:
        await flow_of(Flow, Holds()).run(bundle(), Call())
    assert (refused.value.code, refused.value.retryable) == ("state_not_json", False)


async def test_a_flow_that_is_another_by_now_does_not_guess() -> None:
    """vercel/workflow#1203: elsewhere a redeployment breaks what waits; here it says so."""
    asked = await flow_of(Flow, Asks()).run(bundle(), Call())
    for other in (flow_of(AsyncFlow, Waits()), from_pocketflow(Node(), capability_id="pf.asks")):
        with pytest.raises(CapabilityError, match="Asks is not where it was") as refused:
            await other.resume(bundle(), Call(), asked.state, 1)
        assert refused.value.code == "flow_changed"
