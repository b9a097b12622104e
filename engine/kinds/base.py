"""What a node kind is: a spec for the planner and one coroutine for the walker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts.capability import Bundle, CallContext, Capability, CapabilityDirectory
from contracts.outcome import Outcome
from contracts.plan import KindSpec, PlanNode
from contracts.ports import Model
from engine.remembering import Notebook


@dataclass(slots=True)
class Work:
    """One attempt's world: the node, its kind's own fields, the bundle, and the capability if it calls one."""

    node: PlanNode
    own: Any
    bundle: Bundle
    context: CallContext
    outputs: Mapping[str, Any]
    """node → output, of everything that completed before (conditions read it)"""
    envelope_inputs: Mapping[str, Any]
    capability: Capability | None = None
    parked: Mapping[str, Any] | None = None
    proposed: Any = None
    """what a gate shows"""
    started_ms: int = 0
    """when the node started, ms since the epoch; the same after a crash"""
    notebook: Notebook | None = None
    """what it may read of memory and write; None when its run names no scope"""
    seconds: float = 60.0
    """how long the attempt may take"""
    model: Model | None = None
    """the model, for kinds that ask one"""
    directory: CapabilityDirectory | None = None
    """where kinds that ask a model find its tools"""
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """call of a chat → ``{"output"}`` or ``{"error"}``, of those that have ended"""


class Kind(Protocol):
    """A sort of node. ``run`` returns an outcome and raises only surprises.

    ``pure`` says that running it again is free and nothing leaves the process, so the walker may run ahead of the
    commit (design §4, journal).
    """

    spec: KindSpec
    pure: bool

    async def run(self, work: Work) -> Outcome:
        """Do one attempt."""
