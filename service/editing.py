"""The plan of a living run, edited by people; and runtime rules fired by hand (F5, H2; design §4, plan edits)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.envelope import RuntimeRule, TaskEnvelope, kept_envelope
from contracts.errors import (
    ErrorItem,
    NodeImmutable,
    PlanInvalid,
    PolicyNotFired,
    PolicyNotFound,
    StalePlanVersion,
    Unprocessable,
)
from contracts.lifecycle import NodeStatus
from contracts.plan import PlanGraph, plan_wire
from contracts.ports import Unplannable
from contracts.scopes import granted_to, refused_nodes
from contracts.wire import MAX_DEPTH, Wire, deep_place, pointer_of, read_model
from engine.revive import read_plan
from engine.shell import Shell
from engine.versions import Begun, diff, immutable
from service.control import Asked, Control, has_ended, invalid
from service.rights import check_control, check_edit_plan
from service.runs import as_errors
from store import runs
from store.rows import NodeRow, PromptRow, RunRow

_Name = Annotated[str, Field(min_length=1, max_length=128)]
MAX_CANCELLED: Final = 1_000


class PlanEditInput(Wire):
    """Another plan on top of version ``base_version``, and why; ``cancel`` names nodes that may change or go."""

    base_version: Annotated[int, Field(ge=1)]
    plan: dict[str, Any]
    cancel: list[_Name] = Field(default_factory=list, max_length=MAX_CANCELLED)
    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


@dataclass(frozen=True, slots=True)
class Edited:
    """What became of an edit; ``answered`` says whether the run's holder has taken it, or will."""

    run_id: str
    plan_version: int
    diff: dict[str, list[str]]
    answered: bool = True

    def wire(self) -> dict[str, Any]:
        """Return ``{"run_id", "plan_version", "diff"}``."""
        return {"run_id": self.run_id, "plan_version": self.plan_version, "diff": self.diff}


@dataclass(frozen=True, slots=True)
class _Standing:
    """A run as an edit meets it: its plan, and what of it has begun."""

    run: RunRow
    envelope: TaskEnvelope
    plan: PlanGraph
    begun: Begun


class Editing:
    """The use cases of changing what a run will do."""

    def __init__(self, shell: Shell, control: Control) -> None:
        """Check with this process's planner, and leave signals through ``control``."""
        self._shell, self._control, self._database = shell, control, shell.database

    # --- plans -------------------------------------------------------------------------------------------------------

    async def edit(self, principal: Principal, run_id: str, body: Any) -> Edited:
        """Have a run go on under another plan; what completed stays, what has begun and is not cancelled too.

        An edit that changes nothing and cancels nothing makes no new version. Raises ``RunNotFound``, ``Forbidden``,
        ``InvalidRunState`` (ended, or without a plan yet), ``Unprocessable``, ``StalePlanVersion``, ``PlanInvalid``
        (pointers into the body), ``NodeImmutable``, ``StoreUnavailable``; then nothing was changed.
        """
        run = await self._control.run_of(principal.tenant, run_id)
        check_edit_plan(principal, run.principal)
        if has_ended(run):
            raise invalid(run, f"The run is {run.status}.")
        place = deep_place(body)
        if place is not None:
            raise Unprocessable(errors=[ErrorItem(place, "too_deep", f"Nested over {MAX_DEPTH} levels.")])
        given = read_model(PlanEditInput, body, Unprocessable)
        standing = await self._standing(run)
        _check_base(standing, given.base_version)
        _check_cancelled(standing, given.cancel)
        plan = self._checked(standing, given.plan, "/plan")
        self._check_scopes(principal, standing, plan, "/plan")
        _check_mutable(standing, plan, frozenset(given.cancel), "/plan")
        changes = diff(standing.plan, plan)
        if plan.plan_hash == standing.plan.plan_hash and not given.cancel:
            return Edited(run_id, given.base_version, changes)
        asked = await self._leave(principal, run_id, given, plan, changes)
        if asked.outcome == "superseded":
            await self._explain(run, given, plan)
        asked.applied("")
        return Edited(run_id, given.base_version + asked.answered, changes, asked.answered)

    async def _leave(
        self, principal: Principal, run_id: str, given: PlanEditInput, plan: PlanGraph, changes: dict[str, list[str]]
    ) -> Asked:
        told = {"base_version": given.base_version, "cancel": given.cancel, "reason": given.reason}
        payload = {**told, "plan": plan_wire(plan), "author": principal.subject}
        record = {**told, "diff": changes, "plan_hash": plan.plan_hash}
        return await self._control.ask(
            principal, run_id, "plan", payload, "run.plan_edited", may=check_edit_plan, told=record
        )

    async def _explain(self, run: RunRow, given: PlanEditInput, plan: PlanGraph) -> None:
        """Raise why the run's holder did not take an edit that the door had let through: something came before it."""
        standing = await self._standing(await self._control.run_of(run.tenant, run.run_id))
        _check_base(standing, given.base_version)
        _check_mutable(standing, plan, frozenset(given.cancel), "/plan")
        raise invalid(standing.run, "The planner is being asked for another plan; try again when it has answered.")

    async def review(self, principal: Principal, row: PromptRow, answer: Any) -> list[ErrorItem]:
        """Return what is wrong with a plan that a reviewer edited, with pointers below ``/answer`` (H2, W4)."""
        run = await self._control.run_of(row.tenant, row.run_id)
        standing = await self._standing(run)
        try:
            plan = self._checked(standing, answer, "/answer")
            self._check_scopes(principal, standing, plan, "/answer")
            _check_mutable(standing, plan, frozenset(), "/answer")
        except (PlanInvalid, NodeImmutable) as refused:
            return list(refused.errors)
        return []

    async def versions(self, principal: Principal, run_id: str, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return a page of the plan's versions, newest first: who made each, when and why.

        Raises ``RunNotFound``, ``RunPruned``, ``BadQuery`` for a foreign cursor.
        """
        run = await self._control.run_of(principal.tenant, run_id)
        page = await runs.plan_page(self._database, run.tenant, run_id, limit=limit, cursor=cursor)
        items = [
            {
                "version": row.version,
                "plan_hash": row.plan_hash,
                "author": row.author,
                "reason": row.reason,
                "created_at": rfc3339(row.created_at),
                "url": f"/api/v1/runs/{run_id}/plan?version={row.version}",
            }
            for row in page.rows
        ]
        return {"items": items, "next_cursor": page.next_cursor}

    async def _standing(self, run: RunRow) -> _Standing:
        row = await runs.plan_row(self._database, run.tenant, run.run_id)
        if row is None:
            raise invalid(run, "The run has no plan yet.")
        text = await runs.envelope(self._database, run.tenant, run.run_id)
        nodes = await runs.node_rows(self._database, run.tenant, run.run_id)
        return _Standing(run, kept_envelope(orjson.loads(text or "{}")), read_plan(row.plan_json), _begun(nodes))

    def _checked(self, standing: _Standing, plan: Any, at: str) -> PlanGraph:
        """Return a plan's JSON complete, gated and sealed; raise ``PlanInvalid`` with a pointer per broken place."""
        answer = self._shell.planner.check(plan, standing.envelope, at, standing.plan, standing.run.tenant)
        if isinstance(answer, Unplannable):
            raise PlanInvalid(errors=as_errors(answer))
        return answer.plan

    def _check_scopes(self, principal: Principal, standing: _Standing, plan: PlanGraph, at: str) -> None:
        """Raise ``PlanInvalid`` for nodes that an editor adds or changes and may not have called itself (W4).

        What the run may use was checked with the plan: nobody can have another's run do what neither may.
        """
        granted = granted_to(principal)
        if granted is None:
            return
        known = standing.plan.by_id
        same = {place for place, node in enumerate(plan.nodes) if known.get(node.node_id) == node}
        items = refused_nodes(plan_wire(plan), self._shell.directory.catalogue(), granted, at, same)
        if items:
            raise PlanInvalid(errors=items)

    # --- rules -------------------------------------------------------------------------------------------------------

    async def trigger(self, principal: Principal, run_id: str, policy_id: str) -> Asked:
        """Fire a ``manual`` rule of a run.

        Raises ``RunNotFound``, ``Forbidden``, ``InvalidRunState``, ``PolicyNotFound``, ``PolicyNotFired`` (it is
        disabled, or has another trigger), ``StoreUnavailable``.
        """
        run = await self._control.run_of(principal.tenant, run_id)
        check_control(principal, run.principal)
        if has_ended(run):
            raise invalid(run, f"The run is {run.status}.")
        text = await runs.envelope(self._database, run.tenant, run_id)
        _check_manual(kept_envelope(orjson.loads(text or "{}")).policies.runtime, policy_id)
        payload = {"policy_id": policy_id, "by": principal.subject}
        asked = await self._control.ask(principal, run_id, "trigger", payload, "run.policy_triggered")
        return asked.applied("The run has no plan yet.")


def _begun(nodes: list[NodeRow]) -> dict[str, NodeStatus]:
    """Return the nodes that have an attempt, as :func:`engine.adopting.begun` sees them."""
    return {
        row.node_id: NodeStatus(row.status)
        for row in nodes
        if "[" not in row.node_id and (row.attempt > 0 or row.status == NodeStatus.COMPLETED)
    }


def _check_base(standing: _Standing, base: int) -> None:
    version = standing.run.plan_version
    if base != version:
        raise StalePlanVersion(f"The plan has version {version}.", plan_version=version)


def _check_cancelled(standing: _Standing, cancel: list[str]) -> None:
    strangers = [
        ErrorItem(f"/cancel/{place}", "unknown_node", f"The plan has no node {name!r}.")
        for place, name in enumerate(cancel)
        if name not in standing.plan.by_id
    ]
    if strangers:
        raise Unprocessable(errors=strangers)


def _check_mutable(standing: _Standing, plan: PlanGraph, cancel: frozenset[str], at: str) -> None:
    """Raise ``NodeImmutable`` with every node that has begun and would change all the same."""
    nodes = immutable(standing.plan, plan, standing.begun, cancel)
    if not nodes:
        return
    places = {node.node_id: place for place, node in enumerate(plan.nodes)}
    items = []
    for name in nodes:
        done = standing.begun[name] is NodeStatus.COMPLETED
        fix = "It has completed and cannot change." if done else "It has begun; name it in cancel."
        pointer = at + (pointer_of(["nodes", str(places[name])]) if name in places else "/nodes")
        items.append(ErrorItem(pointer, "node_immutable", f"{name}: {fix}"))
    raise NodeImmutable(f"These nodes have begun: {', '.join(nodes[:20])}.", errors=items, nodes=nodes)


def _check_manual(rules: list[RuntimeRule], policy_id: str) -> None:
    rule = next((rule for rule in rules if rule.id == policy_id), None)
    if rule is None:
        raise PolicyNotFound(f"The run has no runtime policy {policy_id!r}.")
    if not rule.enabled:
        raise PolicyNotFired("The policy is disabled.", policy_id=policy_id)
    if rule.trigger.type != "manual":
        raise PolicyNotFired(f"The policy fires by itself ({rule.trigger.type}).", policy_id=policy_id)
