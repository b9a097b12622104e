"""What this version does not do yet is refused by name, never ignored (wire §2)."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.envelope import TaskEnvelope
from contracts.errors import EnvelopeInvalid, ErrorItem, Unsupported


def refuse_unsupported(envelope: TaskEnvelope, *, models: bool = False) -> None:
    """Raise :class:`Unsupported` with a pointer per thing that is legal but does not work yet, or here.

    ``models`` says whether a model is configured.
    """
    found = list(_findings(envelope))
    if envelope.policies.planner.strategy == "model" and not models:
        found.append(_item("/policies/planner/strategy", "No model is configured that could write a plan."))
    if found:
        raise Unsupported(errors=found)


def _findings(envelope: TaskEnvelope) -> Iterator[ErrorItem]:
    workflow = envelope.workflow
    if workflow is not None and workflow.plan is None:
        name = "flow_id" if workflow.flow_id is not None else "template_id"
        yield _item(f"/workflow/{name}", "Only workflow.plan is supported yet.")
    yield from _rules(envelope)


def _rules(envelope: TaskEnvelope) -> Iterator[ErrorItem]:
    for index, rule in enumerate(envelope.policies.hitl):
        at = f"/policies/hitl/{index}"
        usual = "plan_review" if rule.when == "plan" else "approval"
        if rule.prompt_kind().value != usual:
            yield _item(f"{at}/kind", f"A gate {rule.when} is of kind {usual}; others are not supported yet.")


def refuse_undecidable(envelope: TaskEnvelope, requester: str) -> None:
    """Raise EnvelopeInvalid for a rule that too few people could ever decide once its requester is kept out (H3).

    Only where all who are asked are named; who has a role or is in a group is not known here.
    """
    found = []
    for index, rule in enumerate(envelope.policies.hitl):
        places = [("", rule.assignees), *((f"/escalation/{n}", s.assignees) for n, s in enumerate(rule.escalation))]
        for place, asked in places if rule.exclude_requester else ():
            named = bool(asked.users) and not (asked.roles or asked.groups)
            if named and len(set(asked.users) - {requester}) < rule.quorum:
                message = "Without the requester, too few people are left to reach the quorum."
                pointer = f"/policies/hitl/{index}{place}/assignees"
                found.append(ErrorItem(pointer, "quorum_unreachable", message))
    if found:
        raise EnvelopeInvalid(errors=found)


def _item(pointer: str, message: str) -> ErrorItem:
    return ErrorItem(pointer, "unsupported", message)
