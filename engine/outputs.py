"""Reading what nodes put out: bindings, and the view that conditions see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contracts.plan import RUN_ROOT, Binding
from contracts.wire import resolve_pointer
from engine import documents
from engine.state import NOTHING, RunState


class OutputsView:
    """Outputs of completed nodes by id; nothing is copied until it is asked for."""

    __slots__ = ("_state",)

    def __init__(self, state: RunState) -> None:
        """Look at one run."""
        self._state = state

    def only(self, node_ids: Iterable[str] | None) -> dict[str, Any]:
        """Return the outputs of these nodes; of all when None (a condition whose names are not known)."""
        nodes = self._state.nodes
        wanted = nodes if node_ids is None else node_ids
        found = ((node_id, self._state.output_of(node_id)) for node_id in wanted)
        return {node_id: output for node_id, output in found if output is not NOTHING}


def bind(state: RunState, binding: Binding) -> Any:
    """Return the value a binding names, or :data:`NOTHING` when there is none (skipped node, optional input)."""
    pointer = binding.from_
    if pointer is None:
        if binding.node_id is None:
            return binding.value
        source, pointer = state.output_of(binding.node_id), binding.pointer
        if source is NOTHING or pointer == "":
            return source
    elif pointer.startswith(documents.DOCUMENTS):
        return documents.bound(state, pointer)
    else:
        source = {"run": state.about} if pointer.startswith(RUN_ROOT) else state.envelope_json
    try:
        return resolve_pointer(source, pointer)
    except KeyError:
        return NOTHING


def approved_output(state: RunState, before: str | None = None) -> Any:
    """Return the composed output as the output gates left it; only those ahead of the gate ``before``, if given."""
    shown = state.final
    for gate_id in state.plan.output_gates:
        if gate_id == before:
            break
        approved = state.output_of(gate_id)
        shown = shown if approved is NOTHING else approved
    return shown
