"""Random registries: the search and a brute-force oracle agree on the plan, or that there is none (wire §6)."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from contracts.capability import CapabilitySpec, Facet, Param
from contracts.ports import Planned
from planner.draft import PlanLimits
from tests.planner.oracle import Question, answer
from tests.planner.worlds import World, ask, want

FACETS = tuple(f"kind{letter}" for letter in "abcdef")
GOALS = ("first", "second")


@st.composite
def questions(draw: st.DrawFn) -> Question:
    specs = []
    for number in range(draw(st.integers(1, 6))):
        made = draw(st.lists(st.sampled_from(FACETS), min_size=1, max_size=2, unique=True))
        read = draw(
            st.lists(st.tuples(st.sampled_from(FACETS), st.booleans()), max_size=2, unique_by=lambda pair: pair[0])
        )
        params = {f"p_{facet}": Param(facet, required) for facet, required in read}
        specs.append(CapabilitySpec(f"c{number}", consumes=params, produces=tuple(made), cost=float(2**number)))
    names = st.sampled_from([spec.capability_id for spec in specs])
    some = st.frozensets(names, max_size=1)
    goals = []
    taken: set[str] = set()
    for _ in range(draw(st.integers(1, 2))):
        left = [facet for facet in FACETS if facet not in taken]
        could = draw(st.lists(st.sampled_from(left), min_size=1, max_size=2, unique=True))
        taken |= set(could)
        goals.append(tuple((facet, draw(st.booleans())) for facet in could))
    return Question(
        goals=tuple(goals),
        inputs=tuple(draw(st.lists(st.sampled_from(FACETS), max_size=2, unique=True))),
        capabilities=tuple(specs),
        require=draw(some),
        forbid=draw(some),
        prefer=draw(some),
        avoid=draw(some),
        said=frozenset(draw(st.lists(st.sampled_from(FACETS), max_size=2, unique=True))),
    )


@settings(max_examples=400, deadline=None)
@given(questions())
def test_the_search_agrees_with_brute_force(question: Question) -> None:
    """R4, R8: on random registries; a goal's alternatives come from aliases, ``may`` from a minLength nobody proves."""
    aliases = {facet: GOALS[place] for place, goal in enumerate(question.goals) for facet, _ in goal}
    may = {facet for goal in question.goals for facet, unproved in goal if unproved}
    proved = {"type": "string", "minLength": 1}
    facets = [
        Facet(name, {"type": "string"} if name in may else proved, (aliases[name],) if name in aliases else ())
        for name in FACETS
    ]
    if any(_refines(spec, question) for spec in question.capabilities):
        return  # what a required refiner does is shown in test_rules
    world = World(facets, question.capabilities)
    selection = {name: sorted(getattr(question, name)) for name in ("require", "forbid", "prefer", "avoid")}
    envelope = ask(
        want(**{GOALS[place]: proved for place in range(len(question.goals))}),
        " ".join(["x", *sorted(question.said)]),
        inputs=dict.fromkeys(question.inputs, "given"),
        policies={"planner": {"selection": selection}},
    )
    expected, found = answer(question), world.planner.plan(envelope)
    event("planned" if expected else "no plan")
    if expected is None:
        assert not isinstance(found, Planned), found
        return
    assert isinstance(found, Planned), found
    used = {node.capability_id for node in found.plan.nodes}
    assert used == expected[1]
    assert [goal.facet for goal in found.plan.goals] == list(expected[0])


def _refines(spec: CapabilitySpec, question: Question) -> bool:
    read = {param.facet for param in spec.consumes.values() if param.required}
    return spec.capability_id in question.require and bool(read & set(spec.produces))


def test_the_oracle_can_disagree() -> None:
    """The comparison above is worth something: the oracle tells a dear plan from a cheap one."""
    dear, cheap = (CapabilitySpec(name, produces=("kinda",), cost=cost) for name, cost in (("d", 2.0), ("c", 1.0)))
    found = answer(Question(((("kinda", False),),), (), (dear, cheap)))
    assert found is not None
    assert found[1] == {"c"}
    assert answer(Question(((("kindb", False),),), (), (dear, cheap))) is None


@pytest.mark.parametrize("states", [3, 20_000])
def test_the_search_is_bounded(states: int) -> None:
    """R4: at most so many states; a search that was cut short says so and still answers."""
    facets = [Facet(f"kind{n}", {"type": "string"}) for n in range(4)]
    specs = [CapabilitySpec(f"c{n}.{m}", produces=(f"kind{n}",), cost=float(m)) for n in range(4) for m in range(4)]
    world = World(facets, specs, limits=PlanLimits(max_states=states))
    envelope = ask(want(kind0={"type": "string"}, kind1={"type": "string"}, kind2={"type": "string"}))
    if states == 3:
        assert [finding.code for finding in world.refuse(envelope)] == ["search_limit"]
    else:
        assert [node.capability_id for node in world.plan(envelope).nodes] == ["c0.0", "c1.0", "c2.0"]
        assert world.plan(envelope).findings == []
