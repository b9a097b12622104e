"""``start`` and ``end``: where a plan begins and where it ends, said in the plan (W5)."""

from __future__ import annotations

from contracts.outcome import Done, Outcome
from contracts.plan import KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work


class EndFields(Wire):
    """These kinds have no fields of their own."""


def _nothing(node: PlanNode, _own: object) -> list[tuple[str, str, str]]:
    if not node.inputs:
        return []
    return [("unknown_input", "A start takes no inputs: its output is what the run was given.", "/inputs")]


class StartKind:
    """Its output is the envelope's ``inputs``."""

    spec = KindSpec(
        name="start", fields=EndFields, summary="Begins a plan with what the run was given.", misfits=_nothing,
        place="first", output={"type": "object"},
    )  # fmt: skip
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the inputs of the run."""
        return Done(dict(work.envelope_inputs))


class EndKind:
    """Its output is the object of its inputs, as a ``join``'s is; nothing comes after it."""

    spec = KindSpec(
        name="end", fields=EndFields, summary="Ends a way through a plan; its output is the object of its inputs.",
        place="last", output={"type": "object"},
    )  # fmt: skip
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the inputs."""
        return Done(dict(work.bundle.inputs))


START = StartKind()
END = EndKind()
