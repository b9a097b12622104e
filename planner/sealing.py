"""The last step of every plan: validate, put the gates in, seal."""

from __future__ import annotations

from contracts.plan import PlanGraph
from contracts.ports import Planned, Unplannable
from planner.draft import Draft
from planner.gates import place_gates
from planner.submitted import unused_inputs
from planner.validate import findings_of


def sealed(draft: Draft, strategy: str, version: int = 1) -> Planned | Unplannable:
    """Validate a draft, put its gates in and seal it; any error makes it a refusal."""
    scene = draft.scene
    findings = findings_of(draft)
    if any(finding.severity == "error" for finding in findings):
        return Unplannable(tuple(findings))
    nodes, edges, output = [unit.node for unit in draft.units], draft.edges, draft.output
    rules = scene.envelope.policies.gates()
    if rules:
        tools = {spec.capability_id: spec.tools for spec in scene.index.catalogue.capabilities if spec.tools}
        known, taken = scene.gates, scene.completed
        gated = place_gates(rules, scene.kinds, nodes, edges, output, known=known, taken=taken, tools=tools)
        findings += gated.findings
        if any(finding.severity == "error" for finding in gated.findings):
            return Unplannable(tuple(findings))
        nodes, edges, output = list(gated.nodes.values()), list(gated.edges.values()), gated.output
    plan = PlanGraph(
        plan_version=version,
        strategy=strategy,
        nodes=nodes,
        edges=edges,
        output=output,
        goals=draft.goals,
        unused_inputs=unused_inputs(nodes, output.map.values(), scene),
        estimate=draft.estimate(),
        findings=findings,
    )
    return Planned(plan.sealed())
