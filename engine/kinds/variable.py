"""``variable``: names a value, so that later nodes bind it and conditions read it as ``nodes.<id>`` (W5)."""

from __future__ import annotations

from typing import Any

from contracts.outcome import Done, Fail, Outcome
from contracts.plan import KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work


class VariableFields(Wire):
    """Its value is the input ``value``; ``default`` is taken when that is not there (a skipped node's output)."""

    default: Any = None


def _inputs(node: PlanNode, own: Any) -> list[tuple[str, str, str]]:
    """Return what is wrong with the inputs: there is one, unless a default says it all."""
    found = [
        ("unknown_input", f"A variable takes no input {name!r}; it is the input value.", f"/inputs/{name}")
        for name in sorted(node.inputs.keys() - {"value"})
    ]
    if "value" not in node.inputs and "default" not in own.model_fields_set:
        found.append(("input_missing", "A variable needs the input value, or a default.", "/inputs"))
    return found


class VariableKind:
    """Its output is its value; with ``output.schema`` one that fits."""

    spec = KindSpec(
        name="variable", fields=VariableFields, summary="Names a value for later nodes and conditions.", misfits=_inputs
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the value, or fail for good: it will not come by itself."""
        if "value" in work.bundle.inputs:
            return Done(work.bundle.inputs["value"])
        if "default" in work.own.model_fields_set:
            return Done(work.own.default)
        return Fail("input_missing", "What should have made the value did not, and there is no default.")


VARIABLE = VariableKind()
