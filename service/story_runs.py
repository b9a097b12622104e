"""``POST /run``: a flow by its name, an input, a story; the answer is the result, or what is still missing (R1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.agents import FolderFlows
from contracts.errors import EnvelopeInvalid, ErrorItem, FlowNotFound, FlowVersionNotFound, RunFailed
from contracts.events import Complete, Failed, Frame, RunResumed, RunWaiting
from contracts.flows import DocumentId
from contracts.history import Trigger
from contracts.ids import is_token
from contracts.lifecycle import RUN_TERMINAL, RunStatus
from contracts.wire import Wire, read_model
from events.feed import Feed
from service.flows import Flows
from service.resolving import NO_FOLDER
from service.streams import stays
from service.supplies import pending
from store import flow_names, runs
from store.connect import Database
from store.events import events_after
from store.rows import RunRow

DEFAULT: Final = "default"
_POINTERS: Final = (("/inputs", "/input"), ("/context/story_id", "/story_id"), ("/workflow", "/flow"))


class StoryRunInput(Wire):
    """What ``POST /run`` is given.

    ``flow`` is an id or a name; an ``input`` that is no object is the flow's input ``input``.
    """

    flow: Annotated[str, Field(min_length=1, max_length=200)] = DEFAULT
    input: Any = None
    story_id: DocumentId | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told: ``status`` is the HTTP status of ``body``."""

    status: int
    body: dict[str, Any]
    run_id: str
    correlation_id: str


class Accepted(Protocol):
    """What became of a submitted envelope (``service.runs.Accepted``)."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def correlation_id(self) -> str:
        """The caller's, or a new one."""


class Submits(Protocol):
    """``service.runs.Runs``."""

    async def submit(
        self, body: Any, principal: Principal, *, key: str | None, correlation_id: str | None, trigger: Trigger
    ) -> Accepted:
        """Accept an envelope."""


class StoryRuns:
    """Starts runs of flows and waits for them."""

    def __init__(
        self, database: Database, runs_: Submits, flows: Flows, feed: Feed, folder: FolderFlows = NO_FOLDER
    ) -> None:
        """Use the same use cases as every other door; ``folder`` has the flows that are files."""
        self._database, self._runs, self._flows, self._feed = database, runs_, flows, feed
        self._folder = folder

    async def run(
        self,
        principal: Principal,
        body: Any,
        *,
        seconds: float,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Answer:
        """Start a run and wait for its end, ``seconds`` at most: ``{"status", "result", "pending_docs", "run_id"}``.

        200 with the result, or with ``pending_docs`` and nothing executed; 202 while it waits for people or goes on.
        Raises ``FlowNotFound``, ``FlowVersionNotFound``, ``RunFailed`` (500, with what went wrong), and everything that
        a submission raises, its pointers into this body.
        """
        given = read_model(StoryRunInput, body, EnvelopeInvalid)
        inputs = given.input if isinstance(given.input, dict) else {} if given.input is None else {"input": given.input}
        flow_id = await self._flow(principal, given.flow)
        context = {} if given.story_id is None else {"story_id": given.story_id}
        envelope = await self._flows.envelope(principal, flow_id, {"inputs": inputs, "context": context})
        try:
            run = await self._runs.submit(envelope, principal, key=key, correlation_id=correlation_id, trigger="run")
        except EnvelopeInvalid as refused:
            raise type(refused)(refused.message, errors=[_pointed(item) for item in refused.errors]) from None
        last = await self._last(principal, run.run_id, seconds)
        return await self._answer(principal, run.run_id, run.correlation_id, last)

    async def _flow(self, principal: Principal, named: str) -> str:
        """Return the flow of this id, stored or a file, else the one published under this name, else the default."""
        if self._folder.document(named) is not None:
            return named
        if is_token(named) and await flow_names.exists(self._database, principal.tenant, named):
            return named
        found = await flow_names.published(self._database, principal.tenant, named, 2)
        if len(found) > 1:
            message = "Several flows have this name; give an id."
            raise EnvelopeInvalid(errors=[ErrorItem("/flow", "ambiguous_flow", message)])
        if found:
            return found[0]
        if named == DEFAULT and self._folder.default_id is not None:
            return self._folder.default_id
        if await flow_names.drafted(self._database, principal.tenant, named):
            raise FlowVersionNotFound("It has no published version.")
        raise FlowNotFound(f"There is no flow {named!r}.")

    async def _last(self, principal: Principal, run_id: str, seconds: float) -> Frame | None:
        """Return the frame with which the run ended, or began to wait for somebody; None: neither in that time."""
        watch = self._feed.watch(principal.tenant, run_id, 0)
        waiting: Frame | None = None
        try:
            async with asyncio.timeout(seconds):
                while batch := await watch.batch():
                    for frame in batch:
                        if frame.type in (RunWaiting.type, RunResumed.type):
                            waiting = frame
                    if batch[-1].terminal:
                        return batch[-1]
                    if waiting is not None and stays(waiting):
                        return waiting
        except TimeoutError:
            return None
        finally:
            watch.close()
        return None

    async def _ended(self, tenant: str, row: RunRow) -> Frame | None:
        """Return the terminal frame of a run that has ended."""
        found = await events_after(self._database, tenant, row.run_id, row.last_seq - 1, 1)
        return Frame(found[0].seq, found[0].type, found[0].data) if found else None

    async def _answer(self, principal: Principal, run_id: str, correlation_id: str, last: Frame | None) -> Answer:
        shown: dict[str, Any] = {"status": "running", "result": None, "pending_docs": None, "run_id": run_id}
        row = await runs.run_row(self._database, principal.tenant, run_id)
        if row is not None and RunStatus(row.status) in RUN_TERMINAL and (last is None or not last.terminal):
            last = await self._ended(principal.tenant, row)
        if last is not None and last.terminal:
            payload = orjson.loads(last.data)["payload"]
            if last.type != Complete.type:
                raise _failed(run_id, last.type, payload)
            shown |= {"status": RunStatus.COMPLETED.value, "result": payload["output"]}
            return Answer(200, shown, run_id, correlation_id)
        missing = (
            pending(orjson.loads(row.ledger_json)) if row is not None and row.status == RunStatus.WAITING else None
        )
        shown |= {"pending_docs": missing} | ({} if row is None else {"status": row.status})
        return Answer(202 if missing is None else 200, shown, run_id, correlation_id)


def _failed(run_id: str, kind: str, payload: dict[str, Any]) -> RunFailed:
    if kind == Failed.type:
        return RunFailed(payload["message"], run_id=run_id, run_status="failed", error=payload)
    error = {"code": "cancelled", "message": f"Cancelled by {payload['by']}.", **payload}
    return RunFailed(str(error["message"]), run_id=run_id, run_status="cancelled", error=error)


def _pointed(item: ErrorItem) -> ErrorItem:
    """Return a finding of the envelope with its pointer into the caller's body."""
    for inside, outside in _POINTERS:
        if item.pointer == inside or item.pointer.startswith(f"{inside}/"):
            return ErrorItem(outside + item.pointer[len(inside) :], item.code, item.message)
    return item
