"""People as a last resort: a form made from the node's contract (H2, wire §6 R7)."""

from typing import Any

import pytest

from capabilities.registry import Registry
from contracts.capability import Ask
from contracts.prompts import PromptKind
from tests.capabilities.calls import Call, bundle


@pytest.mark.parametrize(
    ("contract", "schema", "wanted"),
    [
        ({"type": "object", "title": "the address"}, {"type": "object", "title": "the address"}, "the address"),
        ({"type": "string"}, {"type": "string"}, "what is missing"),
        (True, True, "what is missing"),
    ],
)
async def test_the_contract_is_the_form_and_the_answer_the_output(contract: Any, schema: Any, wanted: str) -> None:
    provide = Registry().find("human.provide")
    assert provide is not None
    assert "people" in provide.spec.requires
    given = bundle({"seen": 1}, objective="Send a parcel", contract=contract)
    asked = await provide.run(given, Call())
    assert isinstance(asked, Ask)
    assert asked.prompt.kind is PromptKind.QUESTION
    assert asked.prompt.answer_schema == schema
    assert asked.prompt.assignees.roles == ["operator"]
    assert asked.prompt.proposed == {"seen": 1}
    assert asked.prompt.question == f"Please provide {wanted} for: Send a parcel"
    assert await provide.resume(given, Call(), asked.state, {"street": "x"}) == {"street": "x"}


async def test_a_long_objective_still_makes_a_question() -> None:
    provide = Registry().find("human.provide")
    assert provide is not None
    asked = await provide.run(bundle(objective="x" * 20_000), Call())
    assert isinstance(asked, Ask)
    assert len(asked.prompt.question) == 4_000
