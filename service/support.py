"""What this version does not do yet is refused by name, never ignored (wire §2)."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.envelope import TaskEnvelope
from contracts.errors import ErrorItem, Unsupported

_TIMEOUTS = ("default", "escalate")


def refuse_unsupported(envelope: TaskEnvelope) -> None:
    """Raise :class:`Unsupported` with a pointer per thing that is legal but does not work yet."""
    found = list(_findings(envelope))
    if found:
        raise Unsupported(errors=found)


def _findings(envelope: TaskEnvelope) -> Iterator[ErrorItem]:
    for name, message in (("documents", "Documents"), ("memory", "Memory")):
        if getattr(envelope.context, name):
            yield _item(f"/context/{name}", f"{message} in the context are not supported yet.")
    workflow = envelope.workflow
    if workflow is not None and workflow.plan is None:
        name = "flow_id" if workflow.flow_id is not None else "template_id"
        yield _item(f"/workflow/{name}", "Only workflow.plan is supported yet.")
    yield from _rules(envelope)


def _rules(envelope: TaskEnvelope) -> Iterator[ErrorItem]:
    for index, rule in enumerate(envelope.policies.hitl):
        at = f"/policies/hitl/{index}"
        if rule.on_timeout in _TIMEOUTS:
            yield _item(f"{at}/on_timeout", f"on_timeout {rule.on_timeout} is not supported yet.")
        usual = "plan_review" if rule.when == "plan" else "approval"
        if rule.prompt_kind().value != usual:
            yield _item(f"{at}/kind", f"A gate {rule.when} is of kind {usual}; others are not supported yet.")
    for index, runtime in enumerate(envelope.policies.runtime):
        at = f"/policies/runtime/{index}"
        if runtime.trigger.type != "on_validation_fail":
            yield _item(f"{at}/trigger/type", f"Trigger {runtime.trigger.type} is not supported yet.")
        if runtime.action.type != "replan":
            yield _item(f"{at}/action/type", f"Action {runtime.action.type} is not supported yet.")
        for name in ("selector", "condition"):
            if getattr(runtime.trigger, name) is not None:
                yield _item(f"{at}/trigger/{name}", f"A {name} of this trigger is not supported yet.")


def _item(pointer: str, message: str) -> ErrorItem:
    return ErrorItem(pointer, "unsupported", message)
