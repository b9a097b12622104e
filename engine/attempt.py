"""One try at a node: a PocketFlow node whose prep builds the bundle, exec does the work, post makes the outcome.

PocketFlow's own retries stay at one: order, retries, pause and resume belong to the machine, because they must be
recorded (design §4). Surprises become outcomes here; only cancellation passes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog
from pocketflow import AsyncNode

from contracts.capability import Bundle, Capability, CapabilityDirectory, identity
from contracts.errors import StoreUnavailable
from contracts.log_context import UNDER_WAY
from contracts.outcome import NO_USAGE, Choose, Done, Fail, Outcome, Pause, Retry, Usage
from contracts.ports import CrashPoints, Model
from contracts.prompts import PromptKind, PromptSpec
from contracts.wire import MAX_DEPTH, deep_place, has_nul
from engine import documents
from engine.approvals import CHANGED, gate_of, would_run
from engine.calls import results
from engine.contract import RunContracts
from engine.deadline import Deadline
from engine.gates import gate_question
from engine.kinds import BY_NAME as KINDS_BY_NAME
from engine.kinds.base import Work
from engine.outputs import OutputsView
from engine.remembering import NO_NOTEBOOK, NoNotebook, Notebook
from engine.signals import Report
from engine.state import NodeState, RunState

_log = structlog.get_logger("flex.engine")
_KEPT_INPUT_BYTES = 64 * 1024


@dataclass(slots=True)
class Context:
    """What a capability may use besides its bundle (``contracts.capability.CallContext``)."""

    run_id: str
    node_id: str
    attempt: int
    idempotency_key: str
    on_delta: Callable[[str], None]
    logs: list[tuple[str, str]]
    notebook: Notebook | NoNotebook = NO_NOTEBOOK

    def delta(self, text: str) -> None:
        """Send text to the viewers."""
        self.on_delta(text)

    def log(self, level: str, message: str) -> None:
        """Keep a line for the node's next transition; at most 100 of 2,000 characters."""
        if len(self.logs) < 100:
            self.logs.append((level, message[:2_000]))

    def remember(self, scope: str, key: str, value: Any, expected_revision: int | None = None) -> None:
        """Have a value remembered when the node completes."""
        self.notebook.remember(scope, key, value, expected_revision)

    def forget(self, scope: str, key: str, expected_revision: int | None = None) -> None:
        """Have a key forgotten when the node completes."""
        self.notebook.forget(scope, key, expected_revision)

    def revision(self, scope: str, key: str) -> int:
        """Return the revision of a key as it was read."""
        return self.notebook.revision(scope, key)


@dataclass(slots=True)
class Attempt:
    """Everything one attempt needs; PocketFlow's ``shared`` store."""

    state: RunState
    node: NodeState
    contracts: RunContracts
    directory: CapabilityDirectory
    crash: CrashPoints
    on_delta: Callable[[str], None]
    logs: list[tuple[str, str]]
    inputs: dict[str, Any]
    inputs_json: str | None = None
    purpose: str = "answer"
    covers: str | None = None
    shown_as: str | None = None
    late_seconds: float = 0.0
    """how long ago a call that must not be repeated was said to begin: whoever takes over asks after its time"""
    notebook: Notebook | None = None
    """what it may read of memory and write, if its run names a scope and its kind has a use for it"""
    model: Model | None = None
    """the model, for kinds that ask one"""

    def report(self, outcome: Outcome, **more: Any) -> Report:
        """Return what the machine gets to know of this attempt."""
        return Report(
            outcome,
            inputs=self.inputs,
            inputs_json=self.inputs_json,
            logs=self.logs,
            purpose=self.purpose,
            covers=self.covers,
            shown_as=self.shown_as,
            memory=() if self.notebook is None else self.notebook.writes,
            **more,
        )


async def attempt(shared: Attempt) -> Report:
    """Run one attempt and return its report; raises only ``asyncio.CancelledError``.

    Every line logged meanwhile, also by the capability, says which run, node and attempt it belongs to (F14).
    """
    node = shared.node
    UNDER_WAY.set(
        {
            "run_id": shared.state.run_id,
            "node_id": node.node_id,
            "capability_id": node.step.node.capability_id,
            "attempt": node.attempt,
            "correlation_id": shared.state.correlation_id,
        }
    )
    report = await _tried(shared)
    if isinstance(report.outcome, (Retry, Fail)):
        _log.info("attempt_failed", status="failed", code=report.outcome.code, message=report.outcome.message)
    return report


async def _tried(shared: Attempt) -> Report:
    seconds = shared.node.step.timeout_seconds
    once = shared.node.step.once
    deadline = Deadline(max(0.0, seconds - shared.late_seconds))
    try:
        said: Report = await _NODE.run_async(shared)
    except (Exception, asyncio.CancelledError, SystemExit) as error:  # a capability may raise anything
        # A capability may also cancel something of its own; only somebody else's cancellation ends the attempt.
        if deadline.close() and isinstance(error, asyncio.CancelledError):
            raise
        if deadline.expired:
            message = f"No answer within {seconds:g} seconds."
            return shared.report(Retry("capability_timeout", message, ambiguous=once))
        _log.warning("capability_raised", status="failed", exc_info=True)
        message = f"{type(error).__name__}: {error}"[:500]
        return shared.report(Retry("capability_error", message, ambiguous=once))
    deadline.close()
    return said


class _AttemptNode(AsyncNode):  # type: ignore[misc]  # pocketflow ships no types
    """The three steps of an attempt; it has no state of its own, so one instance serves all."""

    async def prep_async(self, shared: Attempt) -> Work | Report:
        if shared.notebook is not None and shared.node.step.kind.spec.needs_capability:
            try:
                short = await shared.notebook.open()
            except StoreUnavailable as error:
                return shared.report(Retry(error.code, error.message))
            if short:
                message = (
                    f"Only what was written last is in the bundle's memory: {', '.join(short)} hold more than fits."
                )
                shared.logs.append(("warning", message[:2_000]))
        return prepare(shared)

    async def exec_async(self, prep_res: Work | Report) -> Outcome | Report:
        return prep_res if isinstance(prep_res, Report) else await KINDS_BY_NAME[prep_res.node.kind].run(prep_res)

    async def post_async(self, shared: Attempt, _prepared: Work | Report, exec_res: Outcome | Report) -> Report:
        report = exec_res if isinstance(exec_res, Report) else conclude(shared, exec_res)
        if shared.notebook is None or not shared.notebook.writes:
            return report
        return await _kept(shared, shared.notebook, report)


async def _kept(shared: Attempt, notebook: Notebook, report: Report) -> Report:
    """Return the report unless what the attempt wants remembered could not be written; a failed one writes nothing."""
    if isinstance(report.outcome, Pause) and not report.outcome.resumes:
        message = "What is remembered before a question goes with the work after it; this question has none."
        return shared.report(Fail("memory_not_kept", message))
    if not isinstance(report.outcome, (Done, Choose)):
        return report
    conflict = await notebook.conflict(once=shared.node.step.once)
    return report if conflict is None else shared.report(replace(conflict, usage=_usage(report.outcome)))


def _usage(outcome: Done | Choose) -> Usage:
    return outcome.usage if isinstance(outcome, Done) else NO_USAGE


_NODE = _AttemptNode()


def prepare(shared: Attempt) -> Work | Report:
    """Bind the inputs, find the capability, re-check an approval, and build the bundle."""
    state, node = shared.state, shared.node
    plan_node = node.step.node
    _bind_inputs(shared)
    capability = None
    if node.step.kind.spec.needs_capability:
        capability = shared.directory.find(plan_node.capability_id or "", node.version or plan_node.capability_version)
        if capability is None:
            return _missing_capability(shared)
        absent = [name for name in capability.spec.needed if name not in shared.inputs]
        if lost := documents.gone(state):
            return shared.report(Fail("document_missing", f"Deleted since the run was accepted: {', '.join(lost)}."))
        if absent:
            return shared.report(Fail("input_missing", f"Required input is missing: {', '.join(sorted(absent))}."))
    if state.plan.guarded and capability is not None and not _as_approved(shared, capability):
        return shared.report(Retry("approval_stale", CHANGED), stale=True)
    if node.approved is not None and capability is not None and node.shown_as not in (None, identity(capability)):
        shared.shown_as = identity(capability)
        return shared.report(Retry("approval_stale", CHANGED), stale=True)
    proposed = _question(shared) if node.step.guards is not None else None
    shared.crash.reach("attempt.before_call")
    return Work(
        node=plan_node,
        own=node.step.own,
        bundle=_bundle(shared),
        context=_context(shared),
        outputs={} if node.step.reads == () else OutputsView(state).only(node.step.reads),
        envelope_inputs=state.envelope.inputs,
        capability=capability,
        parked=node.parked,
        proposed=proposed,
        started_ms=node.started_at or 0,
        notebook=shared.notebook,
        seconds=node.step.timeout_seconds,
        model=shared.model,
        directory=shared.directory,
        results=results(state, node) if node.calls else {},
    )


def _bind_inputs(shared: Attempt) -> None:
    """Bind every input; a foreign callee gets a copy, so that it cannot change what another node put out."""
    step = shared.node.step
    bound = would_run(shared.state, step)
    if step.kind.spec.fed is not None:
        shared.inputs = bound
        return
    encoded = orjson.dumps(bound)
    shared.inputs = orjson.loads(encoded)
    if len(encoded) <= _KEPT_INPUT_BYTES:
        shared.inputs_json = encoded.decode()


def _as_approved(shared: Attempt, capability: Capability) -> bool:
    """Say whether the capability is still what stood behind its name when its inputs were approved, if they were (H5).

    Inputs, definition and version were compared when the node was dispatched (``engine/approvals.py``).
    """
    gate = shared.state.nodes.get(gate_of(shared.state, shared.node) or "")
    return gate is None or gate.shown_as is None or gate.shown_as == identity(capability)


def _question(shared: Attempt) -> PromptSpec:
    """Return what a gate asks; what its approval will be bound to goes into the report."""
    asked = gate_question(shared.state, shared.node, shared.inputs, shared.contracts, shared.directory)
    shared.covers, shared.shown_as = asked.covers, asked.shown_as
    return asked.spec


def _bundle(shared: Attempt) -> Bundle:
    state, node = shared.state, shared.node
    envelope = state.envelope
    return Bundle(
        objective=envelope.objective,
        inputs=shared.inputs,
        constraints=envelope.constraints,
        directives=envelope.policies.directives,
        instructions=envelope.special_instructions,
        documents=documents.shown(state),
        memory={} if shared.notebook is None else shared.notebook.shown(),
        contract=shared.contracts.of(node.step, state.plan).shown,
        attempt=node.attempt,
        errors=node.feedback,
    )


def _context(shared: Attempt) -> Context:
    node = shared.node
    run_id = shared.state.run_id
    key = f"{run_id}/{node.node_id}/{node.generation}/1"
    notebook = shared.notebook or NO_NOTEBOOK
    return Context(run_id, node.node_id, node.attempt, key, shared.on_delta, shared.logs, notebook)


def _missing_capability(shared: Attempt) -> Report:
    """The pinned version is not here: a person chooses what to do (F15)."""
    node = shared.node.step.node
    name, wanted = node.capability_id or "", shared.node.version or node.capability_version
    other = shared.directory.find(name)
    # What was approved for a map or a loop as a whole is not changed by one item, nor an approved call by anybody.
    gated = shared.node.approved is not None or gate_of(shared.state, shared.node) is not None
    fixed = shared.node.parent is not None and gated
    choices = ["retry", *([f"use {other.spec.version}"] if other is not None and not fixed else []), "fail"]
    spec = PromptSpec(
        kind=PromptKind.CHOICE,
        question=f"{name} {wanted or ''} is not available. What shall happen?",
        answer_schema={"enum": choices},
    )
    shared.purpose = "capability"
    return shared.report(Pause(spec))


def conclude(shared: Attempt, outcome: Outcome) -> Report:
    """Check the output against the node's contract before the machine hears of it (F11)."""
    shared.crash.reach("attempt.after_call")
    if not isinstance(outcome, (Done, Choose)):
        return shared.report(outcome)
    try:
        encoded = orjson.dumps(outcome.output)
    except TypeError as error:
        return shared.report(Fail("output_not_json", f"The output is not JSON: {error}."))
    output = orjson.loads(encoded)
    if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH and deep_place(output) is not None:
        return shared.report(Fail("output_too_deep", f"The output is nested over {MAX_DEPTH} levels."))
    if b"\\u0000" in encoded and has_nul(output):
        return shared.report(Fail("output_has_nul", "The output holds a NUL character; no database stores it."))
    if isinstance(outcome, Choose):
        return shared.report(outcome, output_json=encoded)
    findings = shared.contracts.of(shared.node.step, shared.state.plan).findings(output)
    if findings:
        message = f"{len(findings)} place{'s' if len(findings) > 1 else ''} of the output do not fit."
        return shared.report(Retry("output_invalid", message, findings, output=output, usage=outcome.usage))
    return shared.report(Done(output, outcome.usage), output_json=encoded)
