"""Each clause of R1 to R9 by a catalogue that shows it (wire §6)."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.capability import Catalogue, Facet
from contracts.plan import plan_wire
from contracts.ports import Reconsider
from planner.goals import unknown_facets
from tests.planner.worlds import (
    NAMES,
    SIMPLE,
    TEXT,
    TEXTS,
    World,
    ask,
    business,
    cap,
    obj,
    policies,
    topology,
    used,
    want,
)


class TestGoals:
    def test_facets_are_the_goals(self) -> None:
        """R1, F3."""
        plan = SIMPLE.plan(ask({"mode": "facets", "facets": ["gamma", "beta"]}, inputs={"alpha": "a"}))
        assert [(goal.pointer, goal.facet) for goal in plan.goals] == [("/gamma", "gamma"), ("/beta", "beta")]
        assert sorted(plan.output.map) == ["/beta", "/gamma"]

    def test_without_required_names_every_property_is_a_goal(self) -> None:
        """R1."""
        schema = {"type": "object", "properties": {"beta": TEXT, "delta": TEXT}}
        assert used(SIMPLE.plan(ask(schema, inputs={"alpha": "a"}))) == ["to.beta", "to.delta"]

    def test_optional_parts_are_filled_when_they_are_at_hand(self) -> None:
        """R1: beta is produced on the way, alpha is available, delta would need a node of its own."""
        schema = {**want(gamma=TEXT), "properties": dict.fromkeys(("gamma", "beta", "alpha", "delta"), TEXT)}
        plan = SIMPLE.plan(ask(schema, inputs={"alpha": "a"}))
        assert used(plan) == ["to.beta", "to.gamma"]
        assert sorted(plan.output.map) == ["/alpha", "/beta", "/gamma"]

    @pytest.mark.parametrize(
        "schema",
        [{"type": "string", "x-flex-facet": "beta"}, {**want(beta=TEXT), "x-flex-facet": "gamma", "type": "string"}],
    )
    def test_other_roots_are_one_goal(self, schema: dict[str, Any]) -> None:
        """R1, R2a."""
        plan = SIMPLE.plan(ask(schema, inputs={"alpha": "a"}))
        assert [goal.pointer for goal in plan.goals] == [""]
        assert plan_wire(plan)["output"]["map"][""]["pointer"] == ""

    def test_a_boolean_schema_is_one_unserved_goal(self) -> None:
        """F3: boolean schemas are legal."""
        assert [finding.code for finding in SIMPLE.refuse(ask(True))] == ["no_structurer"]

    def test_a_freeform_goal_is_the_strictly_most_relevant_text(self) -> None:
        """R2c: by the words of objective, instructions and expected format."""
        contract = {"mode": "freeform", "instructions": "a gamma"}
        assert used(SIMPLE.plan(ask(contract, inputs={"alpha": "a"}))) == ["to.beta", "to.gamma"]
        assert used(SIMPLE.plan(ask({"mode": "freeform"}, "delta please"))) == ["to.delta"]
        tie = SIMPLE.refuse(ask({"mode": "freeform"}, "delta and gamma", inputs={"alpha": "a"}))
        assert [finding.code for finding in tie] == ["no_structurer"]

    def test_notes_of_people_count_as_words(self) -> None:
        envelope = ask({"mode": "freeform"}, "anything")
        assert used(SIMPLE.plan(envelope, Reconsider(2, notes=("rather a delta",)))) == ["to.delta"]

    def test_references_inside_the_contract_are_followed(self) -> None:
        schema = {"$defs": {"b": TEXT}, **want(beta={"$ref": "#/$defs/b"})}
        assert [goal.verdict for goal in SIMPLE.plan(ask(schema, inputs={"alpha": "a"})).goals] == ["fits"]

    def test_too_many_goals_are_refused(self) -> None:
        schema = want(**{f"p{n}": TEXT for n in range(300)})
        assert [finding.code for finding in SIMPLE.refuse(ask(schema))] == ["too_many_goals"]


class TestFacets:
    def test_a_clashing_mark_is_passed_over(self) -> None:
        """R2: the first non-clash."""
        world = World(
            [Facet("number", {"type": "number"}), *TEXTS], [cap("to.beta", "beta"), cap("to.number", "number")]
        )
        plan = world.plan(ask(want(beta={**TEXT, "x-flex-facet": "number"})))
        assert used(plan) == ["to.beta"]

    def test_every_facet_of_the_name_is_an_alternative(self) -> None:
        """R2b: the alias whose producer can run wins."""
        world = World(
            [*TEXTS, Facet("one", TEXT, ("text",)), Facet("two", TEXT, ("text",))],
            [cap("to.one", "one", "alpha"), cap("to.two", "two", "beta")],
        )
        assert used(world.plan(ask(want(text=TEXT), inputs={"beta": "b"}))) == ["to.two"]

    def test_the_only_shape_that_does_not_clash(self) -> None:
        """R2c, and its list rather than a wrapped item."""
        pair = obj({"a": TEXT, "b": TEXT})
        world = World(
            [*TEXTS, Facet("item", pair), Facet("items", {"type": "array", "items": pair}, list_of="item")],
            [cap("to.items", "items", batch=True)],
        )
        plan = world.plan(ask(want(anything={"type": "array", "items": pair})))
        assert plan.nodes[0].rationale == ["shape of /anything; only producer"]

    def test_a_shape_that_several_facets_have_is_ambiguous(self) -> None:
        """R2c: unless the words of the goal tell them apart."""
        pair = obj({"a": TEXT, "b": TEXT})
        world = World([Facet("invoice", pair), Facet("receipt", pair)], [cap("i", "invoice"), cap("r", "receipt")])
        (finding,) = world.refuse(ask(want(paper=pair)))
        assert (finding.code, finding.pointer) == ("ambiguous_shape", "/paper")
        assert used(world.plan(ask(want(paper={**pair, "description": "the receipt"})))) == ["r"]

    def test_an_input_of_the_name_serves_what_nothing_produces(self) -> None:
        """R2d, only if its value validates."""
        schema = want(beta=TEXT, alpha=TEXT)
        plan = SIMPLE.plan(ask(schema, inputs={"alpha": "a"}))
        assert plan_wire(plan)["output"]["map"]["/alpha"] == {"from": "/inputs/alpha"}
        longer = want(beta=TEXT, alpha={**TEXT, "minLength": 5})
        assert [finding.code for finding in SIMPLE.refuse(ask(longer, inputs={"alpha": "a"}))] == ["missing_facet"]

    def test_a_plan_without_nodes_is_nothing_to_do(self) -> None:
        """R2."""
        assert [f.code for f in SIMPLE.refuse(ask(want(alpha=TEXT), inputs={"alpha": "a"}))] == ["nothing_to_do"]

    def test_unknown_facets_of_a_contract(self) -> None:
        """Wire §2: 422 ``unknown_facet``, before a run exists."""
        catalogue: Catalogue = SIMPLE.now
        named = unknown_facets(ask({"mode": "facets", "facets": ["beta", "nope"]}), catalogue)
        assert [(item.pointer, item.code) for item in named] == [("/output_contract/facets/1", "unknown_facet")]
        marked = ask({**want(a={**TEXT, "x-flex-facet": "x"}), "x-flex-from": ["beta", "y"]})
        assert [item.pointer for item in unknown_facets(marked, catalogue)] == [
            "/output_contract/schema/x-flex-from/1",
            "/output_contract/schema/properties/a/x-flex-facet",
        ]
        assert unknown_facets(ask({"mode": "freeform"}), catalogue) == []


class TestAvailable:
    @pytest.mark.parametrize(
        ("rest", "pointer"),
        [
            ({"inputs": {"alpha": "a"}}, "/inputs/alpha"),
            ({"context": {"bundles": [{"type": "Alpha", "payload": "a"}]}}, "/context/bundles/0/payload"),
            ({"context": {"documents": ["alpha"]}}, "/context/documents/0"),
            ({"inputs": {"alpha": "a"}, "context": {"bundles": [{"type": "alpha", "payload": "b"}]}}, "/inputs/alpha"),
            (
                {"inputs": {"alpha": 1}, "context": {"bundles": [{"type": "alpha", "payload": "b"}]}},
                "/context/bundles/0/payload",
            ),
        ],
    )
    def test_inputs_come_first_and_the_value_must_fit(self, rest: dict[str, Any], pointer: str) -> None:
        """R3."""
        plan = SIMPLE.plan(ask(want(beta=TEXT), **rest))
        assert plan_wire(plan)["nodes"][0]["inputs"] == {"alpha": {"from": pointer}}

    def test_objective_and_instructions_are_available(self) -> None:
        """R3."""
        world = World(
            [*TEXTS, Facet("goal_text", TEXT, ("objective",)), Facet("rules", NAMES, ("special_instructions",))],
            [cap("to.beta", "beta", "goal_text rules")],
        )
        plan = world.plan(ask(want(beta=TEXT), special_instructions=["be brief"]))
        assert plan_wire(plan)["nodes"][0]["inputs"] == {
            "goal_text": {"from": "/objective"},
            "rules": {"from": "/special_instructions"},
        }

    def test_a_value_that_does_not_fit_is_told_when_the_plan_needs_it(self) -> None:
        """R3: ``input_mismatch``, and only then."""
        codes = [finding.code for finding in SIMPLE.refuse(ask(want(beta=TEXT), inputs={"alpha": 1}))]
        assert codes == ["input_mismatch", "missing_facet"]
        assert SIMPLE.plan(ask(want(delta=TEXT), inputs={"alpha": 1})).findings == []
        world = World(TEXTS, [cap("to.beta", "beta", "alpha?")])
        (finding,) = world.plan(ask(want(beta=TEXT), inputs={"alpha": 1})).findings
        assert (finding.code, finding.severity) == ("input_mismatch", "warning")


class TestSearch:
    def test_a_goal_is_produced_even_if_an_input_has_its_facet(self) -> None:
        """R4: translate text → text."""
        world = World([Facet("text", TEXT)], [cap("translate", "text", "text")])
        plan = world.plan(ask(want(text=TEXT), inputs={"text": "a"}))
        assert plan_wire(plan)["nodes"][0]["inputs"] == {"text": {"from": "/inputs/text"}}

    def test_no_cycles(self) -> None:
        """R4."""
        world = World(TEXTS, [cap("a", "alpha", "beta"), cap("b", "beta", "alpha")])
        assert [finding.code for finding in world.refuse(ask(want(alpha=TEXT)))] == ["missing_facet"]

    def test_optional_inputs_are_wired_if_at_hand(self) -> None:
        """R4: from the envelope or from a chosen node; never a reason for a node."""
        world = World(TEXTS, [cap("b", "beta"), cap("g", "gamma", "beta? delta?"), cap("d", "delta")])
        plan = world.plan(ask(want(beta=TEXT, gamma=TEXT)))
        assert plan_wire(plan)["nodes"][1]["inputs"] == {"beta": {"node_id": "beta", "pointer": ""}}

    def test_a_superset_is_kept_for_an_additional_prefer(self) -> None:
        """R4."""
        world = World(TEXTS, [cap("both", ("alpha", "beta")), cap("only.beta", "beta")])
        goals = want(alpha=TEXT, beta=TEXT)
        assert used(world.plan(ask(goals))) == ["both"]
        assert used(world.plan(ask(goals, policies=policies(prefer=["only.beta"])))) == ["both", "only.beta"]

    @pytest.mark.parametrize(("objective", "winner"), [("cost", "cheap"), ("speed", "fast"), ("quality", "good")])
    def test_the_optimisation_decides_between_equals(self, objective: str, winner: str) -> None:
        """R4, F5; the rationale names the runner-up."""
        world = World(
            TEXTS,
            [
                cap("cheap", "beta", cost=1, latency_ms=90, quality=0.1),
                cap("fast", "beta", cost=2, latency_ms=10, quality=0.2),
                cap("good", "beta", cost=3, latency_ms=50, quality=0.9),
            ],
        )
        plan = world.plan(ask(want(beta=TEXT), policies={"planner": {"optimisation": {"objective": objective}}}))
        assert used(plan) == [winner]
        assert any(reason.startswith("runner-up: ") for reason in plan.nodes[0].rationale)

    def test_avoid_forbid_and_without(self) -> None:
        """F5: avoided when there is another way, forbidden always; a replan leaves capabilities out."""
        world = World(TEXTS, [cap("one", "beta", cost=1), cap("two", "beta", cost=2)])
        goal = want(beta=TEXT)
        assert used(world.plan(ask(goal, policies=policies(avoid=["one"])))) == ["two"]
        assert used(world.plan(ask(goal, policies=policies(forbid=["one"])))) == ["two"]
        assert used(world.plan(ask(goal), Reconsider(2, without=frozenset({"one"})))) == ["two"]
        (finding,) = world.refuse(ask(goal, policies=policies(forbid=["one", "two"])))
        assert "one is out: forbidden" in finding.message

    def test_proved_goals_rank_before_unproved_ones(self) -> None:
        """R4: a ``may`` goal costs more than money does."""
        world = World(
            [Facet("sure", {**TEXT, "minLength": 3}, ("text",)), Facet("loose", TEXT, ("text",))],
            [cap("s", "sure", cost=9), cap("l", "loose")],
        )
        assert used(world.plan(ask(want(text={**TEXT, "minLength": 3})))) == ["s"]

    def test_a_plan_that_uses_more_inputs_is_better(self) -> None:
        """R4."""
        world = World(TEXTS, [cap("blind", "beta"), cap("seeing", "beta", "alpha", cost=5)])
        assert used(world.plan(ask(want(beta=TEXT), inputs={"alpha": "a"}))) == ["seeing"]

    def test_relevance_decides_between_alternatives(self) -> None:
        """R4."""
        world = World(
            [Facet("ant", TEXT, ("text",), "about harbours"), Facet("bee", TEXT, ("text",), "about mountains")],
            [cap("a", "ant"), cap("b", "bee")],
        )
        assert used(world.plan(ask(want(text=TEXT), "mountains"))) == ["b"]
        assert used(world.plan(ask(want(text=TEXT), "harbours"))) == ["a"]

    def test_the_next_plan_is_taken_when_the_best_breaks_the_topology(self) -> None:
        """F5: max_nodes, forbidden and required kinds bound the plan, they do not only judge it."""
        world = World(TEXTS, [cap("long", "beta", "gamma"), cap("to.gamma", "gamma"), cap("short", "beta", cost=9)])
        assert used(world.plan(ask(want(beta=TEXT)))) == ["to.gamma", "long"]
        assert used(world.plan(ask(want(beta=TEXT), policies=topology(max_nodes=1)))) == ["short"]
        assert used(world.plan(ask(want(beta=TEXT), policies=topology(max_depth=1)))) == ["short"]
        codes = [f.code for f in world.refuse(ask(want(gamma=TEXT), policies=topology(required_kinds=["map"])))]
        assert codes == ["required_kind"]

    def test_an_inactive_producer_is_out_with_its_remedy(self) -> None:
        """R9, F15."""
        world = World(TEXTS, [cap("to.beta", "beta")], {"to.beta": "start the service behind it"})
        (finding,) = world.refuse(ask(want(beta=TEXT)))
        assert "to.beta is out: start the service behind it" in finding.message
        assert "start the service behind it" in (finding.fix or "")


class TestRequire:
    def test_only_plans_that_use_it(self) -> None:
        """R8."""
        world = World(TEXTS, [cap("one", "beta", cost=1), cap("two", "beta", cost=2), cap("other", "gamma")])
        assert used(world.plan(ask(want(beta=TEXT), policies=policies(require=["two"])))) == ["two"]
        assert [f.code for f in world.refuse(ask(want(beta=TEXT), policies=policies(require=["other"])))] == [
            "require_unmet"
        ]

    def test_it_may_refine_its_own_facet_from_a_producer(self) -> None:
        """R8: after the source, before all consumers."""
        world = World(TEXTS, [cap("make", "beta"), cap("polish", "beta", "draft=beta"), cap("use", "gamma", "beta")])
        plan = world.plan(ask(want(beta=TEXT, gamma=TEXT), policies=policies(require=["polish"])))
        assert used(plan) == ["make", "polish", "use"]
        wire = plan_wire(plan)
        assert wire["nodes"][1]["inputs"] == {"draft": {"node_id": "beta", "pointer": ""}}
        assert wire["nodes"][2]["inputs"] == {"beta": {"node_id": "beta_2", "pointer": ""}}
        assert wire["output"]["map"]["/beta"]["node_id"] == "beta_2"

    def test_it_may_refine_an_input(self) -> None:
        """R8: its consumers read the refined value, not the input."""
        world = World(TEXTS, [cap("polish", "alpha", "alpha"), cap("use", "beta", "alpha")])
        plan = world.plan(ask(want(beta=TEXT), inputs={"alpha": "a"}, policies=policies(require=["polish"])))
        assert plan_wire(plan)["nodes"][1]["inputs"] == {"alpha": {"node_id": "alpha", "pointer": ""}}

    def test_several_refine_in_the_order_required(self) -> None:
        world = World(TEXTS, [cap("a", "beta", "beta"), cap("b", "beta", "beta"), cap("make", "beta")])
        for order in (["a", "b"], ["b", "a"]):
            assert used(world.plan(ask(want(beta=TEXT), policies=policies(require=order)))) == ["make", *order]

    @pytest.mark.parametrize("group", ["require", "forbid", "prefer", "avoid"])
    def test_a_name_that_is_no_capability(self, group: str) -> None:
        (finding,) = SIMPLE.refuse(ask(want(delta=TEXT), policies=policies(**{group: ["nope"]})))
        assert (finding.code, finding.pointer) == ("unknown_capability", f"/policies/planner/selection/{group}/0")


def test_a_plan_says_what_it_will_take() -> None:
    """F4: money and tokens add up, time is the longest path."""
    world = World(
        TEXTS,
        [
            cap("a", "alpha", cost=1, latency_ms=30, tokens=5),
            cap("b", "beta", "alpha", cost=2),
            cap("g", "gamma", latency_ms=35),
        ],
    )
    estimate = world.plan(ask(want(beta=TEXT, gamma=TEXT))).estimate
    assert (estimate.cost, estimate.tokens, estimate.latency_ms) == (3, 5, 40)


def test_a_new_catalogue_forgets_the_old_answers() -> None:
    world = business()
    assert world.refuse(ask(want(nothing=TEXT)))
    world.now = Catalogue((*world.now.facets, Facet("nothing", TEXT)), (cap("n", "nothing"),), frozenset({"n"}))
    assert used(world.plan(ask(want(nothing=TEXT)))) == ["n"]
