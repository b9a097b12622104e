"""Lists, counts and structuring: R5, R6, R7 (wire §6)."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.capability import Facet
from contracts.plan import plan_wire
from contracts.schema import compile_schema
from tests.planner.worlds import NAMES, SIMPLE, TEXT, TEXTS, World, ask, cap, obj, policies, topology, used, want

PAIR = obj({"a": TEXT, "b": TEXT})
LISTS = [
    Facet("post", PAIR),
    Facet("posts", {"type": "array", "items": PAIR}, list_of="post"),
    Facet("topic", TEXT),
    Facet("topics", NAMES, list_of="topic"),
]
POSTS: dict[str, Any] = {"type": "array", "items": PAIR}


class TestLists:
    def test_a_batch_producer_gets_the_count(self) -> None:
        """R5, R6: policy, else input, else minItems, else 1."""
        world = World(LISTS, [cap("batch", "posts", batch=True)])

        def count(schema: dict[str, Any], **rest: Any) -> Any:
            return plan_wire(world.plan(ask(want(posts=schema), **rest)))["nodes"][0]["inputs"]["count"]["value"]

        assert count(POSTS) == 1
        assert count({**POSTS, "minItems": 3}) == 3
        assert count({**POSTS, "minItems": 3}, inputs={"variantCount": 4}) == 4
        assert count(POSTS, inputs={"variant_count": 4}, policies=topology(variant_count=5)) == 5

    def test_else_a_map_over_a_list_of_its_input(self) -> None:
        """R5."""
        world = World(LISTS, [cap("write", "post", "topic")])
        plan = world.plan(ask(want(posts=POSTS), inputs={"topics": ["x", "y"]}))
        (node,) = plan_wire(plan)["nodes"]
        assert (node["kind"], node["over"], node["as"]) == ("map", {"from": "/inputs/topics"}, "topic")
        assert node["node"]["capability_id"] == "write"
        assert node["output"]["facet"] == "posts"

    def test_a_map_over_a_list_that_is_made_first(self) -> None:
        world = World(LISTS, [cap("write", "post", "topic"), cap("find", "topics")])
        plan = world.plan(ask(want(posts=POSTS)))
        assert [node.kind for node in plan.nodes] == ["call", "map"]
        assert [(edge.from_, edge.to) for edge in plan.edges] == [("topics", "posts")]

    def test_else_so_many_copies(self) -> None:
        """R5: one to n, gathered by a transform."""
        world = World(LISTS, [cap("write", "post", "topic")])
        plan = world.plan(ask(want(posts=POSTS), inputs={"topic": "x"}, policies=topology(variant_count=2)))
        assert [(node.node_id, node.kind) for node in plan.nodes] == [
            ("post", "call"),
            ("post_2", "call"),
            ("posts", "transform"),
        ]
        assert plan.by_id["posts"].own["expression"] == "[i0, i1]"
        assert plan.by_id["posts"].output is not None

    def test_a_contract_of_the_node_holds_the_count(self) -> None:
        """R6: minItems = maxItems = n, when somebody said n."""
        world = World(LISTS, [cap("free", "posts")])
        told = world.plan(ask(want(posts=POSTS), policies=topology(variant_count=2))).nodes[0].output
        free = world.plan(ask(want(posts=POSTS))).nodes[0].output
        assert told is not None
        assert free is not None
        assert told.schema_ == {"type": "array", "minItems": 2, "maxItems": 2}
        assert free.schema_ == POSTS

    @pytest.mark.parametrize(
        ("number", "code"), [(1, "variant_count_conflict"), (4, "variant_count_conflict"), (2, None), (3, None)]
    )
    def test_a_count_outside_the_contract_is_a_conflict(self, number: int, code: str | None) -> None:
        """R6."""
        world = World(LISTS, [cap("batch", "posts", batch=True)])
        envelope = ask(want(posts={**POSTS, "minItems": 2, "maxItems": 3}), policies=topology(variant_count=number))
        if code is None:
            assert world.plan(envelope).findings == []
        else:
            assert [finding.code for finding in world.refuse(envelope)] == [code]

    def test_of_several_lists_the_one_with_items_of_its_own(self) -> None:
        """R6, else ``ambiguous_variants``."""
        facets = [*LISTS, Facet("tags", NAMES)]
        world = World(facets, [cap("batch", "posts", batch=True), cap("tag", "tags"), cap("find", "topics")])
        two = topology(variant_count=2)
        plan = world.plan(ask(want(posts=POSTS, tags=NAMES), policies=two))
        assert plan_wire(plan)["nodes"][0]["inputs"] == {"count": {"value": 2}}
        (finding,) = world.refuse(ask(want(posts=POSTS, topics=NAMES), policies=two))
        assert finding.code == "ambiguous_variants"
        assert world.plan(ask(want(posts=POSTS, topics=NAMES))).findings == []

    def test_a_count_that_nothing_uses_is_told(self) -> None:
        codes = [f.code for f in SIMPLE.plan(ask(want(delta=TEXT), policies=topology(variant_count=2))).findings]
        assert codes == ["variant_count_unused"]


class TestStructuring:
    WORLD = World(
        [*TEXTS, Facet("report", TEXT, description="quarterly earnings")],
        [
            cap("to.beta", "beta", "alpha"),
            cap("to.report", "report", "beta"),
            cap("model", (), generic=True, requires=("model",)),
            cap("person", (), generic=True, requires=("people",), kind="call"),
        ],
    )

    def test_all_unserved_goals_share_one_node(self) -> None:
        """R7: it reads the most relevant sinks and every input nobody consumes."""
        schema = want(mood={"type": "boolean"}, score={"$ref": "#/$defs/n"}) | {"$defs": {"n": {"type": "integer"}}}
        plan = self.WORLD.plan(ask(schema, "earnings", inputs={"alpha": "a", "extra": 1}))
        assert used(plan) == ["to.beta", "to.report", "model"]
        node = plan.nodes[-1]
        assert plan_wire(plan)["nodes"][-1]["inputs"] == {
            "report": {"node_id": "report", "pointer": ""},
            "extra": {"from": "/inputs/extra"},
        }
        assert sorted(plan.output.map) == ["/mood", "/score"]
        assert node.output is not None
        assert isinstance(node.output.schema_, dict)
        assert node.output.schema_["required"] == ["mood", "score"]
        assert plan.unused_inputs == []

    def test_nothing_irrelevant_is_made_for_it(self) -> None:
        """R7: relevance must be above 0."""
        assert used(self.WORLD.plan(ask(want(mood={"type": "boolean"}), "x", inputs={"alpha": "a"}))) == ["model"]

    def test_it_reads_what_it_is_told_to(self) -> None:
        """R7: ``x-flex-from``."""
        plan = self.WORLD.plan(ask(want(mood={"type": "boolean", "x-flex-from": ["beta"]}), inputs={"alpha": "a"}))
        assert used(plan) == ["to.beta", "model"]
        assert plan_wire(plan)["nodes"][-1]["inputs"] == {"beta": {"node_id": "beta", "pointer": ""}}
        (finding,) = self.WORLD.refuse(ask(want(mood={"type": "boolean", "x-flex-from": ["beta"]})))
        assert finding.code == "missing_facet"

    def test_prefer_lets_it_make_any_goal(self) -> None:
        """R7."""
        goal = want(beta=TEXT)
        assert used(self.WORLD.plan(ask(goal, inputs={"alpha": "a"}))) == ["to.beta"]
        plan = self.WORLD.plan(ask(goal, inputs={"alpha": "a"}, policies=policies(prefer=["model"])))
        assert used(plan) == ["to.beta", "model"]
        assert plan.output.map["/beta"].node_id == plan.nodes[-1].node_id

    def test_people_are_the_last_resort(self) -> None:
        """R7: only when the envelope says so, and after every plan without people."""
        offline = World(self.WORLD.now.facets, self.WORLD.now.capabilities, {"model": "set it up"})
        goal = want(mood={"type": "boolean"})
        assert [finding.code for finding in offline.refuse(ask(goal))] == ["no_structurer"]
        assert used(offline.plan(ask(goal, policies=policies(humans="last_resort")))) == ["person"]
        assert used(self.WORLD.plan(ask(goal, policies=policies(humans="last_resort")))) == ["model"]

    def test_people_provide_what_nothing_produces(self) -> None:
        """R7: one node per such facet, the fewest; generics never do that."""
        plan = self.WORLD.plan(ask(want(report=TEXT), policies=policies(humans="last_resort")))
        assert used(plan) == ["person", "to.beta", "to.report"]
        assert plan.nodes[0].node_id == "alpha"
        assert plan.nodes[0].output is not None
        assert plan.nodes[0].output.schema_ == TEXT
        assert [finding.code for finding in self.WORLD.refuse(ask(want(report=TEXT)))] == ["missing_facet"]

    def test_its_contract_stands_alone(self) -> None:
        """R7, F11: what the goal's schema refers to comes along, however the references go round."""
        tree = {
            "type": "object",
            "required": ["name"],
            "properties": {"name": TEXT, "below": {"$ref": "#/$defs/trees"}},
        }
        shared = {"tree": tree, "trees": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}
        for goals in (
            want(root={"$ref": "#/$defs/tree"}),
            want(root={"$ref": "#/$defs/tree"}, mood={"type": "boolean"}),
        ):
            output = self.WORLD.plan(ask({**goals, "$defs": shared})).nodes[-1].output
            assert output is not None
            compiled = compile_schema(output.schema_)
            good, bad = {"name": "a", "below": [{"name": "b"}]}, {"name": "a", "below": [{}]}
            alone = len(goals["required"]) == 1
            assert compiled.is_valid(good if alone else {"root": good, "mood": True})
            assert not compiled.is_valid(bad if alone else {"root": bad, "mood": True})

    def test_a_goal_in_pieces_elsewhere_is_followed(self) -> None:
        """A reference may name any place of the contract, keep siblings, or name nothing."""
        schema = want(
            beta={"$ref": "#/properties/mood/x-part", "minLength": 1}, mood={"type": "boolean", "x-part": TEXT}
        )
        plan = self.WORLD.plan(ask(schema, inputs={"alpha": "a"}))
        assert [(goal.pointer, goal.verdict) for goal in plan.goals] == [("/beta", "may"), ("/mood", "fits")]
        assert plan.goals[0].unproved == ["/minLength"]
