"""Offline copy: deterministic, bounded, honest (wire §6 A)."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.copy_facets import COMPANY_SUMMARY, COPY_VARIANTS
from capabilities.copy_template import copy_template, topic_of
from capabilities.profile_summary import profile_summary
from capabilities.registry import Registry
from contracts.schema import compile_schema
from tests.capabilities.calls import Call, bundle, run

PROFILE = {
    "name": "Harbor Bakery", "location": "Kiel", "industry": "food", "description": "We bake by hand",
    "products": ["rye", "rolls"], "values": ["time"],
}  # fmt: skip
ASKED = {"profile": PROFILE, "channel": "linkedin", "audience": "bakers", "tone": "warm"}


async def _written(inputs: dict[str, Any], **more: Any) -> list[dict[str, str]]:
    written: list[dict[str, str]] = await run(Registry(), "copy.template", inputs, **more)
    return written


async def test_the_example_of_the_contract() -> None:
    said = await _written(
        {**ASKED, "count": 2},
        objective="Two LinkedIn post variants on new jobs",
        instructions=["One about the crew."],
        directives={"brand_voice": "plain"},
    )
    assert len(said) == 2
    whole = str(said)
    assert "new jobs" in whole
    assert "Harbor Bakery" in whole
    assert "bakers" in whole.lower()
    assert "the crew" in said[0]["body"]
    assert "the crew" not in said[1]["body"]
    assert "#HarborBakery" in said[0]["body"]
    assert said[0]["callToAction"] == "See the open roles and apply"
    again = await _written(
        {**ASKED, "count": 2},
        objective="Two LinkedIn post variants on new jobs",
        instructions=["One about the crew."],
        directives={"brand_voice": "plain"},
    )
    assert again == said


async def test_only_a_name_and_a_channel_are_needed() -> None:
    (said,) = await _written({"profile": {"name": "X"}, "channel": ""})
    assert len(said["body"]) >= 20


async def test_a_short_channel_gets_short_text_and_no_tags() -> None:
    said = await _written({**ASKED, "channel": "X", "count": 10}, objective="Posts about " + "very " * 60 + "long news")
    assert all(len(each["body"]) <= 240 for each in said)
    assert not any("#" in each["body"] for each in said)


async def test_the_tone_picks_the_opening() -> None:
    bodies = {tone: (await _written({**ASKED, "tone": tone}))[0]["body"] for tone in ("warm", "formal", "odd")}
    assert len(set(bodies.values())) == 3


async def test_many_variants_are_all_different() -> None:
    said = await _written({**ASKED, "count": 1_000})
    assert len({tuple(each.values()) for each in said}) == 1_000
    assert all(set(each) == {"headline", "body", "callToAction"} for each in said)


async def test_a_template_inside_a_profile_is_only_text() -> None:
    """R6: nothing from input is ever executed."""
    evil = {"name": "{{ 7 * 7 }}", "description": "{% for x in range(9) %}a{% endfor %}"}
    (said,) = await _written({"profile": evil, "channel": "email"}, objective="News on {{ 6 * 7 }}")
    assert "{{ 7 * 7 }}" in said["body"]
    assert "{% for" in said["body"]
    assert not re.search(r"\b(49|42)\b", str(said))


@pytest.mark.parametrize(
    ("objective", "topic"),
    [
        ("Two LinkedIn post variants on new jobs", "new jobs"),
        ("Write about the harvest.", "the harvest"),
        ("Posts announcing Berlin office", "Berlin office"),
        ("Spring menu", "spring menu"),
        ("   ", "our news"),
    ],
)
def test_the_topic_of_an_objective(objective: str, topic: str) -> None:
    assert topic_of(objective) == topic


@given(
    name=st.text(max_size=60),
    channel=st.text(max_size=12),
    audience=st.text(max_size=40),
    tone=st.text(max_size=20),
    objective=st.text(min_size=1, max_size=200),
    count=st.integers(1, 20),
    notes=st.lists(st.text(min_size=1), max_size=3),
    more=st.fixed_dictionaries({}, optional={"description": st.text(), "products": st.lists(st.text(), max_size=3)}),
)
async def test_any_input_gives_variants_of_the_facets_shape(
    name: str,
    channel: str,
    audience: str,
    tone: str,
    objective: str,
    count: int,
    notes: list[str],
    more: dict[str, Any],
) -> None:
    inputs = {"profile": {"name": name, **more}, "channel": channel, "audience": audience, "tone": tone, "count": count}
    said = await copy_template.run(bundle(inputs, objective=objective, instructions=notes), Call())
    assert compile_schema(COPY_VARIANTS.schema).explain(said) == []
    assert len({tuple(each.values()) for each in said}) == len(said) == count
    assert all(len(each["body"]) >= 20 for each in said)


_TEXTS = {name: st.text() for name in ("tagline", "description", "industry", "location")}
_LISTS = {name: st.lists(st.text(), max_size=3) for name in ("products", "values")}


@given(st.fixed_dictionaries({"name": st.text(max_size=30)}, optional={**_TEXTS, **_LISTS}))
async def test_a_profile_is_summarised_in_its_own_words(profile: dict[str, Any]) -> None:
    said = await profile_summary.run(bundle({"profile": profile}), Call())
    assert compile_schema(COMPANY_SUMMARY.schema).is_valid(said)
    assert profile["name"] in said
