"""What a run needs because of the agents in its plan: documents that must be there first, a story (R1, R2, R5).

An agent's file says so (``wait_for``, ``memory_scope: isolated``), and so do those that it has called. A plan that is
written by a model comes too late for this: its run has begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from contracts.capability import CapabilityDirectory, CapabilitySpec
from contracts.errors import EnvelopeInvalid, ErrorItem
from contracts.memory import AGENT
from contracts.ports import Planned, Unplannable
from service.intake import Admitted

OWN: Final = f"{AGENT}:"


def needing(
    admitted: Admitted, directory: CapabilityDirectory, planned: Planned | Unplannable | None = None
) -> Admitted:
    """Return the envelope with the documents that agents in its plan wait for, after those that it names.

    The plan is its own, or the one that was ``planned`` for it. The same object when there is nothing to add. Raises
    ``EnvelopeInvalid`` when an agent remembers per story, and the envelope names none.
    """
    catalogue = directory.catalogue()
    if not (catalogue.remembers or catalogue.awaits):
        return admitted
    workflow = admitted.envelope.workflow
    plan = None if workflow is None else workflow.plan
    if plan is None and isinstance(planned, Planned):
        plan = planned.plan.model_dump(mode="json")
    specs: dict[str, list[CapabilitySpec]] = {}
    for spec in catalogue.capabilities:
        specs.setdefault(spec.capability_id, []).append(spec)
    used = [spec for name in _reached(set(_named(plan)), specs) for spec in specs.get(name, ())]
    context = admitted.envelope.context
    personal = [spec.capability_id for spec in used if spec.memory is not None and spec.memory.startswith(OWN)]
    if personal and context.story_id is None:
        message = f"{personal[0]} remembers what belongs to a story: say which one."
        raise EnvelopeInvalid(errors=[ErrorItem("/context/story_id", "required", message)])
    documents = list(dict.fromkeys([*context.documents, *(each for spec in used for each in spec.documents)]))
    if documents == list(dict.fromkeys(context.documents)):
        return admitted
    envelope = admitted.envelope.model_copy(update={"context": context.model_copy(update={"documents": documents})})
    kept = {**admitted.envelope_json["context"], "documents": documents}
    return replace(admitted, envelope=envelope, envelope_json={**admitted.envelope_json, "context": kept})


def _named(value: Any) -> Iterator[str]:
    """Yield every capability that a plan names: of its nodes, inside of them, among the tools of its chats."""
    if isinstance(value, list):
        for each in value:
            yield from _named(each)
    elif isinstance(value, Mapping):
        tools = value.get("tools")
        for name in (value.get("capability_id"), *(tools if isinstance(tools, list) else ())):
            if isinstance(name, str):
                yield name
        for name, each in value.items():
            if name != "inputs":
                yield from _named(each)


def _reached(names: set[str], specs: Mapping[str, list[CapabilitySpec]]) -> list[str]:
    """Return the capabilities with all that they have called, sorted."""
    line = list(names)
    while line:
        for spec in specs.get(line.pop(), ()):
            new = [name for name in spec.tools if name not in names]
            names.update(new)
            line += new
    return sorted(names)
