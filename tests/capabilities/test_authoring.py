"""The authoring surface: what may be written, and what a wrong declaration says (F15, H2)."""

from typing import Any

import pytest

from capabilities import (
    Ask,
    Bundle,
    CallContext,
    CapabilityBase,
    CapabilityError,
    CapabilitySpec,
    DeclarationError,
    PromptSpec,
    Result,
    Usage,
    capability,
    facet,
)
from contracts.capability import Capability, Param
from tests.capabilities.calls import Call, bundle

PROFILE = {"name": "Harbor Bakery"}


async def test_every_form_of_function() -> None:
    @capability("a", consumes={"profile": "company_profile", "tone?": "tone"}, produces="tagline", batch=True)
    def by_name(profile: Any, tone: str = "plain", count: int = 1) -> str:
        """A tagline.

        And more.
        """
        return f"{profile['name']} {tone} {count}"

    @capability("b")
    async def whole(bundle: Bundle) -> Any:
        return dict(bundle.inputs)

    @capability("c")
    async def both(bundle: Bundle, context: CallContext) -> Any:
        return Result([bundle.objective, context.node_id], Usage(3, 0.5))

    @capability("d", consumes={"format": "x"})
    async def rest(**inputs: Any) -> Any:
        return inputs

    assert await by_name.run(bundle({"profile": PROFILE}), Call()) == "Harbor Bakery plain 1"
    assert await by_name.run(bundle({"profile": PROFILE, "tone": "warm", "count": 3}), Call()) == "Harbor Bakery warm 3"
    assert by_name(PROFILE) == "Harbor Bakery plain 1"
    assert by_name.spec.description == "A tagline."
    assert by_name.spec.consumes == {"profile": Param("company_profile"), "tone": Param("tone", required=False)}
    assert by_name.spec.produces == ("tagline",)
    assert await whole.run(bundle({"x": 1}), Call()) == {"x": 1}
    assert await both.run(bundle(), Call()) == Result(["Say it", "node"], Usage(3, 0.5))
    assert await rest.run(bundle({"format": "a", "if": 1}), Call()) == {"format": "a", "if": 1}
    assert isinstance(by_name, Capability)


async def test_a_required_input_that_is_not_bound_is_a_typed_failure() -> None:
    @capability("a", consumes={"text": "x"})
    async def upper(text: str) -> str:
        return text.upper()

    with pytest.raises(CapabilityError) as refused:
        await upper.run(bundle(), Call())
    assert (refused.value.code, refused.value.retryable) == ("input_missing", False)


async def test_a_capability_asks_and_goes_on_with_the_answer() -> None:
    """H2: a capability asks from inside its work; the second half gets state and answer."""

    @capability("asks")
    async def asks() -> Ask:
        return Ask(PromptSpec(question="Which colour?", answer_schema={"type": "string"}), state={"tried": 1})

    with pytest.raises(CapabilityError) as refused:
        await asks.resume(bundle(), Call(), None, "red")
    assert (refused.value.code, refused.value.retryable) == ("resume_missing", False)

    @asks.on_answer
    def answered(answer: str, state: dict[str, int]) -> str:
        return f"{answer} after {state['tried']}"

    said = await asks.run(bundle(), Call())
    assert isinstance(said, Ask)
    assert await asks.resume(bundle(), Call(), said.state, "red") == "red after 1"
    assert callable(answered)


async def test_a_class_is_a_capability() -> None:
    class Shout(CapabilityBase):
        spec = CapabilitySpec("shout")

        async def run(self, bundle: Bundle, context: CallContext) -> str:
            return bundle.objective.upper()

    assert isinstance(Shout(), Capability)
    assert await Shout().run(bundle(), Call()) == "SAY IT"
    with pytest.raises(CapabilityError, match="resume_missing"):
        await Shout().resume(bundle(), Call(), None, 1)


def _line_of(error: DeclarationError) -> str:
    file, _, line = error.place.rpartition(":")
    assert file == __file__
    assert line.isdigit()
    return error.message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"capability_id": "no spaces"}, "ids and versions"),
        ({"capability_id": "a", "version": "one two"}, "ids and versions"),
        ({"capability_id": "a", "quality": 2.0}, "quality"),
        ({"capability_id": "a", "cost": -1.0}, "not negative"),
        ({"capability_id": "a", "effects": "many"}, "effects"),
        ({"capability_id": "a", "consumes": {"not a name": "x"}}, "parameter name"),
        ({"capability_id": "a", "consumes": {"count": "x"}, "batch": True}, "count"),
        ({"capability_id": "a", "scopes": "crm write"}, "scope"),
        ({"capability_id": "a", "scopes": ("fine", "*")}, "scope"),
    ],
)
def test_a_wrong_spec_names_file_and_line(fields: dict[str, Any], says: str) -> None:
    async def body() -> None: ...

    with pytest.raises(DeclarationError) as refused:
        capability(**fields)(body)
    assert says in _line_of(refused.value)


def test_a_parameter_nobody_gives_names_what_there_is() -> None:
    async def body(profil: str) -> None: ...

    with pytest.raises(DeclarationError) as refused:
        capability("a", consumes={"profile": "company_profile"})(body)
    assert "profil" in _line_of(refused.value)
    assert "profile" in refused.value.message


def test_a_parameter_that_has_no_name_to_be_given_by() -> None:
    async def body(text: str, /) -> None: ...

    with pytest.raises(DeclarationError, match="by name"):
        capability("a", consumes={"text": "x"})(body)


@pytest.mark.parametrize(
    ("name", "schema", "says"),
    [
        ("two words", {}, "facet name"),
        ("x", {"type": "strin"}, "facet x"),
        ("x", {"$ref": "http://e.com/s"}, "facet x"),
    ],
)
def test_a_wrong_facet_names_file_and_line(name: str, schema: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        facet(name, schema)
    assert says in _line_of(refused.value)


def test_facets_compare_by_what_they_say_not_by_where() -> None:
    one = facet("x", {"type": "string"}, aliases=("y",))
    two = facet("x", {"type": "string"}, aliases=("y",))
    assert one == two
    assert capability("a", consumes={"p": one}, produces=[two])(_nothing).spec.produces == ("x",)


async def _nothing() -> None: ...
