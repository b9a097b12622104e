"""The outside world answers a ``wait`` node: once, under its token, checked before it is taken (J6)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.envelope import kept_envelope
from contracts.errors import BadToken, CallbackInvalid, ErrorItem, NodeSettled, NotFound, Unprocessable
from contracts.lifecycle import NODE_TERMINAL, NodeStatus
from contracts.wire import MAX_DEPTH, Wire, deep_place, read_model
from engine.compiled import CompiledPlan
from engine.contract import RunContracts
from engine.kinds import BY_NAME
from engine.revive import read_plan
from engine.shell import Shell
from engine.waiting import CALLBACK_FAILED, UNEXPLAINED
from service.control import ANSWER_SECONDS, Asked, Control, has_ended, invalid
from store import runs, signals
from store.rows import NodeRow, RunRow, SignalRow

BY: Final = "callback"


class CallbackInput(Wire):
    """What happened outside: ``completed`` with the node's ``output``, or ``failed`` with an ``error`` to read."""

    status: Literal["completed", "failed"]
    output: Any = None
    error: Annotated[str, Field(min_length=1, max_length=4_000)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.status == "completed" and self.error is not None:
            raise PydanticCustomError("not_failed", "An error goes with the status failed.")
        if self.status == "failed" and "output" in self.model_fields_set:
            raise PydanticCustomError("not_completed", "An output goes with the status completed.")
        return self


class Callbacks:
    """The use case of the callback door."""

    def __init__(self, shell: Shell) -> None:
        """Work with what this process's walkers share."""
        self._shell = shell
        self._database = shell.database
        self._control = Control(shell)

    async def call(self, run_id: str, node_id: str, token: str | None, body: Any) -> Asked:
        """Take a callback; return what became of it. One that came before its node waits is kept (not answered yet).

        Saying the same again changes nothing and is fine, also after the run has ended. Raises ``BadToken``,
        ``Unprocessable``, ``CallbackInvalid`` (the output does not fit the node's contract), ``RunNotFound``,
        ``RunPruned``, ``NotFound`` (no such node), ``NodeSettled``, ``InvalidRunState`` (the run has ended),
        ``StoreUnavailable``; then nothing was changed.
        """
        tenant = self._shell.addresses.tenant_of(token or "", run_id, node_id)
        if tenant is None:
            raise BadToken
        said = _read(body)
        run = await self._control.run_of(tenant, run_id)
        node = await runs.node_row(self._database, tenant, run_id, node_id)
        if _same(node, said):
            return Asked(run, "applied")
        _refuse_late(run, node)
        await self._check(run, node, node_id, said)
        kept = await self._kept(run, node_id)
        if kept is not None and not _equal(kept, said):
            raise NodeSettled("Another callback for this node came first.")
        waits = node is not None and node.status == NodeStatus.WAITING
        signal_id = kept.signal_id if kept is not None else await self._left(run, node_id, said)
        asked = await self._control.answer(run, signal_id, ANSWER_SECONDS if waits else 0)
        if asked.outcome == "applied" or (asked.outcome is None and await self._leads(run, node_id, signal_id)):
            return asked
        return await self._overtaken(asked, node_id, said)

    async def _leads(self, run: RunRow, node_id: str, signal_id: int) -> bool:
        """Say whether this is the first callback of its node that is kept: of two that came at once, one is."""
        kept = await self._kept(run, node_id)
        return kept is not None and kept.signal_id == signal_id

    async def _left(self, run: RunRow, node_id: str, said: CallbackInput) -> int:
        payload = {"node_id": node_id, "status": said.status, "output": said.output, "error": said.error, "by": BY}
        return (await self._control.leave(run, "callback", payload)).signal_id

    async def _kept(self, run: RunRow, node_id: str) -> SignalRow | None:
        """Return the callback of this node that nobody has answered yet."""
        for row in await signals.pending_of(self._database, run.tenant, run.run_id, "callback"):
            if orjson.loads(row.payload_json)["node_id"] == node_id:
                return row
        return None

    async def _overtaken(self, asked: Asked, node_id: str, said: CallbackInput) -> Asked:
        """Another callback was faster: fine if it said the same."""
        node = await runs.node_row(self._database, asked.run.tenant, asked.run.run_id, node_id)
        kept = await self._kept(asked.run, node_id)
        if kept is not None and _equal(kept, said):
            return Asked(asked.run, None)
        if not _same(node, said):
            _refuse_late(asked.run, node)
            raise NodeSettled("Another callback for this node came first.")
        return Asked(asked.run, "applied")

    async def _check(self, run: RunRow, node: NodeRow | None, node_id: str, said: CallbackInput) -> None:
        """Raise unless the node is one that is called back and, as far as can be said before, the output fits it."""
        plan, contracts = await self._plan(run)
        step = plan.steps.get(node_id)
        kind = node.kind if node is not None else None if step is None else step.node.kind
        if kind is None or not BY_NAME[kind].spec.called_back:
            raise NotFound("There is no such node, or nobody calls it back.")
        if said.status == "completed" and step is not None:
            found = contracts.of(step, plan).findings(said.output)
            if found:
                items = [ErrorItem("/output" + item["pointer"], item["keyword"], item["message"]) for item in found]
                raise CallbackInvalid(errors=items)

    async def _plan(self, run: RunRow) -> tuple[CompiledPlan, RunContracts]:
        text = await runs.envelope(self._database, run.tenant, run.run_id)
        row = await runs.plan_row(self._database, run.tenant, run.run_id)
        if text is None or row is None:
            raise NotFound("The run has no plan yet.")
        envelope = kept_envelope(orjson.loads(text))
        plan = self._shell.compile(read_plan(row.plan_json), envelope)
        return plan, self._shell.world(envelope).contracts


def _read(body: Any) -> CallbackInput:
    said = read_model(CallbackInput, body, Unprocessable)
    place = deep_place(said.output)
    if place is not None:
        message = f"Nested over {MAX_DEPTH} levels."
        raise CallbackInvalid(errors=[ErrorItem("/output" + place, "too_deep", message)])
    return said


def _refuse_late(run: RunRow, node: NodeRow | None) -> None:
    if has_ended(run):
        raise invalid(run, f"The run is {run.status}.")
    if node is not None and NodeStatus(node.status) in NODE_TERMINAL:
        raise NodeSettled(f"The node is {node.status}.", node_status=node.status)


def _same(node: NodeRow | None, said: CallbackInput) -> bool:
    """Say whether the node has ended as this callback says."""
    if node is None:
        return False
    if said.status == "completed":
        done = node.status == NodeStatus.COMPLETED and node.output_json is not None
        return done and _canonical(orjson.loads(node.output_json or "null")) == _canonical(said.output)
    error = {} if node.error_json is None else orjson.loads(node.error_json)
    return bool(error.get("code") == CALLBACK_FAILED and error.get("message") == (said.error or UNEXPLAINED))


def _equal(kept: SignalRow, said: CallbackInput) -> bool:
    payload = orjson.loads(kept.payload_json)
    one = (payload["status"], payload["error"], _canonical(payload["output"]))
    return bool(one == (said.status, said.error, _canonical(said.output)))


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
