"""What every walker of a process shares: the world outside the machine, handed in once by the wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from contracts.answer import answer_schema
from contracts.capability import CapabilityDirectory, Catalogue
from contracts.envelope import TaskEnvelope
from contracts.memory import MemoryLimits
from contracts.plan import PlanGraph
from contracts.ports import Clock, CrashPoints, Ids, Nudge, Planned, Planner, Random, Unplannable
from contracts.schema import CompiledSchema, compile_schema
from engine.addresses import Addresses
from engine.compiled import CompiledPlan, compile_plan
from engine.contract import RunContracts
from engine.drafting import Drafting, reconsidered
from engine.held import Hashed
from engine.kinds import BY_NAME
from engine.outcomes import Outcomes
from engine.signals import ReplanAsked
from engine.state import RunState
from engine.turn import World
from events.feed import Feed
from store.connect import Database
from store.journal import Journal


@dataclass(slots=True)
class Shell:
    """Collaborators of the walkers of one process."""

    database: Database
    journal: Journal
    feed: Feed
    directory: CapabilityDirectory
    planner: Planner
    clock: Clock
    ids: Ids
    random: Random
    crash: CrashPoints
    nudge: Nudge
    drafting: Drafting = field(default_factory=Drafting)
    addresses: Addresses = field(default_factory=Addresses)
    outcomes: Outcomes = field(default_factory=Outcomes)
    document_characters: int = 300_000
    """how much of its documents' texts a run is given"""
    notifies: bool = False
    """whether people are told of prompts by other ways than looking"""
    memory_limits: MemoryLimits = field(default_factory=MemoryLimits)
    lease_holds: Callable[[], bool] = field(default=lambda: True)
    _facets: tuple[Catalogue | None, Mapping[str, Any]] = (None, {})

    def facets(self) -> Mapping[str, Any]:
        """Return facet name → schema of the present catalogue."""
        catalogue = self.directory.catalogue()
        if self._facets[0] is not catalogue:
            self._facets = (catalogue, {facet.name: facet.schema for facet in catalogue.facets})
        return self._facets[1]

    def world(self, envelope: TaskEnvelope, contract: CompiledSchema | None = None) -> World:
        """Return what a run's machine is handed; ``contract`` is the caller's schema, if it is compiled already."""
        facets = self.facets()
        caller = contract or compile_schema(answer_schema(envelope.contract, facets))
        return World(self.ids, self.random, RunContracts(caller, facets), BY_NAME, notifies=self.notifies)

    def compile(self, plan: PlanGraph, envelope: TaskEnvelope) -> CompiledPlan:
        """Return the plan ready to walk; equal plans under equal defaults share one copy.

        Plans that run alike may differ in version, rationale and findings: what is shown is always the plan itself.
        """
        policies = envelope.policies
        shared = _compiled(plan.plan_hash, policies.retry.max_attempts, policies.timeouts.node_seconds, Hashed(plan))
        return shared if shared.graph is plan else replace(shared, graph=plan)

    def replan(self, state: RunState, asked: ReplanAsked) -> Planned | Unplannable:
        """Ask the planner again, or have a plan that a person wrote checked.

        A plan that came with the envelope has just failed: what replaces it is searched for.
        """
        if asked.edited is not None:
            return self.planner.check(asked.edited, state.envelope, present=state.plan.graph, tenant=state.tenant)
        envelope = state.envelope
        if envelope.workflow is not None:
            envelope = envelope.model_copy(update={"workflow": None})
        return self.planner.plan(envelope, reconsidered(state, asked))


@lru_cache(maxsize=256)
def _compiled(_plan_hash: str, attempts: int, timeout: float, held: Hashed[PlanGraph]) -> CompiledPlan:
    return compile_plan(held.value, BY_NAME, attempts, timeout)
