"""Child runs: their names, their envelopes, and how deep they may nest (design §4, children)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from contracts.envelope import GRANTED, TaskEnvelope
from contracts.ids import RUN, ulid

MAX_DEPTH: Final = 8
"""How many child runs may stand one below the other; the run that a caller started is at depth 0."""


def child_run_id(run_id: str, node_id: str, generation: int) -> str:
    """Return the name of a node's child run: the same after a crash, another one after a deliberate re-execution."""
    digest = sha256(f"{run_id}/{node_id}/{generation}".encode()).digest()
    return f"{RUN}_{ulid(int.from_bytes(digest[:6]), int.from_bytes(digest[6:16]))}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has used up of its budget when a child run begins: it gets the rest."""

    tokens: int = 0
    cost: float = 0.0
    asks: int = 0
    wall_ms: int = 0


NOTHING_SPENT: Final = Spent()


def child_envelope(
    parent: TaskEnvelope,
    own: Mapping[str, Any],
    *,
    run_seconds: float | None = None,
    spent: Spent = NOTHING_SPENT,
    within: str | None = None,
) -> dict[str, Any]:
    """Return the TaskEnvelope (JSON) of a child run.

    ``own`` has what its node decides: ``objective``, ``inputs``, ``output_contract``, ``workflow``. The rest is its
    parent's: context, constraints, instructions, metadata, and of the policies those that say how work is done and what
    it may not use. Gates, runtime rules and demands on the plan are the parent's alone. Its time is ``run_seconds``
    or the parent's, its budget what the parent has left. ``within`` is the capability that it is the work of (a stored
    flow): a new plan for it must not use that again.
    """
    policies = parent.policies
    forbid = dict.fromkeys([*policies.planner.selection.forbid, *([] if within is None else [within])])
    return {
        "context": parent.context.model_dump(mode="json"),
        "constraints": dict(parent.constraints),
        "special_instructions": list(parent.special_instructions),
        "metadata": dict(parent.metadata),
        "correlation_id": parent.correlation_id,
        "policies": {
            "planner": {
                "selection": {"forbid": list(forbid)},
                "topology": {"forbidden_kinds": list(policies.planner.topology.forbidden_kinds)},
            },
            "directives": dict(policies.directives),
            "retry": policies.retry.model_dump(mode="json"),
            "timeouts": {
                "node_seconds": policies.timeouts.node_seconds,
                "run_seconds": run_seconds or policies.timeouts.run_seconds,
            },
            "budget": _rest(parent, spent),
            "concurrency": policies.concurrency,
            "on_output_invalid": policies.on_output_invalid,
        },
        **_granted(parent),
        **own,
    }


def _granted(parent: TaskEnvelope) -> dict[str, Any]:
    """Return what says that the child may use no more than its parent."""
    return {} if parent.granted is None else {GRANTED: sorted(parent.granted)}


def _rest(parent: TaskEnvelope, spent: Spent) -> dict[str, Any]:
    budget = parent.policies.budget
    seconds = budget.wall_seconds
    return {
        "tokens": None if budget.tokens is None else max(0, budget.tokens - spent.tokens),
        "cost": None if budget.cost is None else max(0.0, budget.cost - spent.cost),
        "wall_seconds": None if seconds is None else max(0.001, seconds - spent.wall_ms / 1_000),
        "human_asks": max(0, budget.human_asks - spent.asks),
    }
