"""Parallel prompts, generated: width, order of asking, order of answering, crash point (H1, H4, H6).

Each answer lands at its own node, none is lost, none counts twice, and no body runs again after it asked.
Would have survived mastra#24581, #15552, #9288, #10746 (parallel suspends lose siblings or payloads), langgraph#6626
and #8579 (answers on the wrong prompt), langgraph#7780 and #6208 (the body runs again from the top) and
microsoft/agent-framework#2276 (restarts instead of resuming).
"""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.durability.crowd import Case, Played, crowd

AT_ONCE = 80
EXAMPLES = {"sqlite": 20, "postgres": 6}
"""of 80 cases each: 2,080 runs in all"""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A few branches; asking and answering in any order in which an answer follows its question; crashes anywhere."""
    width = draw(st.sampled_from([1, 2, 2, 2, 3, 3, 4, 6]))
    branches = [draw(st.sampled_from(["ask", "inside"])) for _ in range(width)]
    steps: list[tuple[str, int]] = []
    for place in draw(st.permutations(range(len(branches)))):
        asks = draw(st.integers(0, len(steps)))
        answers = draw(st.integers(asks, len(steps)))
        steps.insert(answers, (draw(st.sampled_from(["answer", "answer", "deaf"])), place))
        steps.insert(asks, ("open", place))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        steps.insert(draw(st.integers(0, len(steps))), ("crash", draw(st.integers(0, 1))))
    return Case(tuple(branches), tuple(steps))


def check(played: Played) -> None:
    """What must be true of every case."""
    names = [f"a{place}" for place in range(len(played.case.branches))]
    wanted = {name: place + 100 for place, name in enumerate(names)}
    assert played.last["type"] == "complete", (played.case, played.last)
    assert played.last["payload"]["output"] == wanted, played.case
    assert [frame["id"] for frame in played.frames] == list(range(1, len(played.frames) + 1))
    asked = {frame["node_id"]: frame["payload"]["prompt"]["prompt_id"] for frame in played.of("hitl_request")}
    assert len(played.of("hitl_request")) == len(names), "nobody was asked twice"
    assert asked == played.prompts
    resolved = {frame["payload"]["prompt_id"]: frame for frame in played.of("hitl_resolved")}
    assert len(played.of("hitl_resolved")) == len(resolved) == len(names)
    for name in names:
        frame = resolved[asked[name]]
        assert (frame["node_id"], frame["payload"]["decision"]["answer"]) == (name, wanted[name])


async def play(url: str, many: list[Case]) -> None:
    """Play some cases at once and look at each."""
    async with crowd(url) as people:
        for played in await asyncio.gather(*(people.play(case) for case in many)):
            check(played)
            for place, sort in enumerate(played.case.branches):
                if sort == "inside":
                    key = (played.run_id, f"a{place}")
                    assert people.stage.began[key] == played.began[key[1]], "the body ran again after it asked"
                    assert set(people.stage.resumed[key]) == {place + 100}


@pytest.mark.parametrize("backend", EXAMPLES)
def test_every_answer_lands_at_its_own_node_whatever_the_order_and_the_crash(
    request: pytest.FixtureRequest, backend: str
) -> None:
    """H1, H4, H6: two thousand runs, walked by two workers that lose them to each other."""
    url = str(request.getfixturevalue(f"{backend}_url"))

    @settings(
        max_examples=EXAMPLES[backend], deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )  # fmt: skip
    @given(st.lists(cases(), min_size=AT_ONCE, max_size=AT_ONCE))
    def some(many: list[Case]) -> None:
        asyncio.run(play(url, many))

    some()
