"""Stored flows among the capabilities of a plan: lists, several facets, new plans for a run, what disagrees (W2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.capability import Facet
from contracts.envelope import TaskEnvelope, read_envelope
from contracts.flow_capability import FlowOffer
from contracts.plan import PlanGraph, definition
from contracts.ports import Planned, Reconsider
from engine.kinds import kind_table
from planner.planner import SearchPlanner
from tests.planner.worlds import TEXT, World, cap, obj

LIST = {"type": "array", "items": TEXT}


class Shelf:
    """One tenant's flows."""

    def __init__(self, *offers: FlowOffer) -> None:
        self.offers = offers

    def of(self, tenant: str) -> Sequence[FlowOffer]:
        return self.offers if tenant == "mine" else ()


def offer(
    name: str, consumes: str, produces: Any, version: int = 1, schema: Any = TEXT, said: str = "So, "
) -> FlowOffer:
    """A flow of one transform."""
    inputs = {"it": {"from": "/inputs/it"}}
    expression = "{'toast': it, 'song': it}" if isinstance(produces, list) else f"'{said}' & it"
    node = {"node_id": "make", "kind": "transform", "expression": expression, "inputs": inputs}
    output = {"mode": "map", "map": {"": {"node_id": "make", "pointer": ""}}}
    document = {
        "name": name, "inputs": obj({"it": TEXT}), "output_contract": {"schema": schema},
        "plan": {"nodes": [node], "edges": [], "output": output},
        "capability": {"consumes": {"it": consumes}, "produces": produces},
    }  # fmt: skip
    return FlowOffer(name, version, document)


def planner(shelf: Shelf, *more: Any) -> SearchPlanner:
    facets = (Facet("guest", TEXT), Facet("guests", LIST, list_of="guest"), Facet("toasts", LIST, list_of="toast"),
              Facet("toast", TEXT), Facet("thanks", TEXT))  # fmt: skip
    return SearchPlanner(World(facets, more), kind_table(), shelf=shelf)


def asked(wanted: dict[str, Any], **inputs: Any) -> TaskEnvelope:
    contract = {"mode": "json_schema", "schema": obj(wanted)}
    return read_envelope({"objective": "Celebrate", "inputs": inputs, "output_contract": contract})


def planned(maker: SearchPlanner, envelope: TaskEnvelope, again: Reconsider | None = None) -> PlanGraph:
    answer = maker.plan(envelope, again or Reconsider(1, tenant="mine"))
    assert isinstance(answer, Planned), answer
    return answer.plan


def test_a_flow_runs_for_each_item_of_a_list() -> None:
    """W2, R5: a map's inner node is the subflow, its plan complete like every other."""
    plan = planned(planner(Shelf(offer("flw_1", "guest", "toast"))), asked({"toasts": LIST}, guests=["Ana", "Ben"]))
    (node,) = plan.nodes
    inner = node.own["node"]
    assert (node.kind, inner["kind"], inner["capability_id"]) == ("map", "subflow", "flow.flw_1")
    assert inner["plan"]["plan_hash"]


def test_a_flow_gives_several_facets() -> None:
    """W2: the parts of its output are the facets; a facet that nobody declares is the flow's own."""
    schema = obj({"toast": TEXT, "song": TEXT})
    shelf = Shelf(offer("flw_1", "guest", ["toast", "song"], schema=schema))
    plan = planned(planner(shelf), asked({"toast": TEXT, "song": TEXT}, guest="Ana"))
    assert [node.capability_id for node in plan.nodes] == ["flow.flw_1"]
    assert {at: bound.pointer for at, bound in plan.output.map.items()} == {"/toast": "/toast", "/song": "/song"}


def test_flows_and_capabilities_make_one_plan_and_the_better_one_wins() -> None:
    """W2, R4: a flow stands between capabilities; what it costs is its declaration's to say, else its plan's."""
    thanks = cap("say.thanks", "thanks", "toast", cost=1)
    cheap = cap("make.toast", "toast", "guest", cost=5)
    maker = planner(Shelf(offer("flw_1", "guest", "toast")), thanks, cheap)
    plan = planned(maker, asked({"thanks": TEXT}, guest="Ana"))
    assert [node.capability_id for node in plan.nodes] == ["flow.flw_1", "say.thanks"]
    assert plan.estimate.cost == 1
    dear = offer("flw_1", "guest", "toast")
    dear = FlowOffer("flw_1", 1, {**dear.document, "capability": {**dear.document["capability"], "cost": 9}})
    plan = planned(planner(Shelf(dear), thanks, cheap), asked({"thanks": TEXT}, guest="Ana"))
    assert [node.capability_id for node in plan.nodes] == ["make.toast", "say.thanks"]
    assert not isinstance(planner(Shelf(dear), thanks).plan(asked({"thanks": TEXT}, guest="Ana")), Planned)


def test_a_run_keeps_the_version_it_has() -> None:
    """W2, F6: a new plan repeats the node that has run, word for word, whatever was published meanwhile."""
    shelf = Shelf(offer("flw_1", "guest", "toast"))
    maker = planner(shelf, cap("a.thanks", "thanks", "toast"), cap("b.thanks", "thanks", "toast", cost=9))
    envelope = asked({"thanks": TEXT}, guest="Ana")
    first = planned(maker, envelope)
    again = Reconsider(2, frozenset({"a.thanks"}), (), first, frozenset({"toast"}), "mine")
    for offers in (shelf.offers, (offer("flw_1", "guest", "toast", 2, said="Well, "),)):
        shelf.offers = offers
        second = planned(maker, envelope, again)
        assert [node.capability_id for node in second.nodes] == ["flow.flw_1", "b.thanks"]
        assert definition(second.nodes[0]) == definition(first.nodes[0])
    assert planned(maker, envelope).nodes[0].capability_version == "2"


def test_flows_that_disagree_about_a_facet_rest_and_say_why() -> None:
    """W2: the first one says what a facet is that nobody else declares; the others do not break its plans."""
    number = offer("flw_2", "guest", "cheer", schema={"type": "integer"})
    maker = planner(Shelf(offer("flw_1", "guest", "cheer"), number))
    catalogue = maker.index("mine").catalogue
    assert catalogue.active >= {"flow.flw_1"}
    assert "cannot be a cheer" in catalogue.inactive_reasons["flow.flw_2"]
    lost = FlowOffer("flw_3", 1, offer("flw_3", "guest", "cheer").document, "There is no such flow.")
    catalogue = planner(Shelf(lost)).index("mine").catalogue
    assert catalogue.inactive_reasons["flow.flw_3"] == "There is no such flow."
    assert "flow.flw_3" not in catalogue.active


def test_what_an_old_draft_says_under_the_key_is_told_not_raised() -> None:
    """W2: keys that flex did not know were kept; one of them has a meaning now."""
    made = offer("flw_1", "guest", "toast")
    old = FlowOffer("flw_1", 1, {**made.document, "capability": "speaks"})
    (found,) = planner(Shelf()).declared("mine", old)
    assert (found.layer, found.pointer) == ("structure", "/capability")
    wordy = FlowOffer("flw_1", 1, {**made.document, "output_contract": {"mode": "freeform"}})
    assert planner(Shelf()).declared("mine", wordy) == []
