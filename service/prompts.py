"""What people are asked and how they answer: list, read, decide, resume (H4, H7, H10; wire §5)."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.errors import (
    BadQuery,
    ErrorItem,
    HumanPayloadRequired,
    InvalidRunState,
    PromptNotFound,
    ServerBusy,
    StalePlanVersion,
    StoreUnavailable,
    Unprocessable,
)
from contracts.lifecycle import RUN_TERMINAL, PromptStatus, RunStatus, WaitingOn
from contracts.ports import Clock
from contracts.prompts import DecisionInput
from contracts.wire import Wire, read_model
from hitl.desk import Decided, Desk
from hitl.render import policy_of, to_prompt, wire
from hitl.standing import may_decide, standing_of
from service.control import Control
from service.gone import gone_or_missing, prompt_gone_or_missing
from store import prompts as rows
from store import runs
from store.connect import Database
from store.keyset import encode
from store.prompts import View
from store.rows import PromptRow, RunRow

_Id = Annotated[str, Field(min_length=1, max_length=200)]

RETRY_SECONDS: Final = 2
MAX_PAGES: Final = 20
"""How many pages of rows one request looks through for prompts that fit."""

_STORED: Final[Mapping[str, View]] = {
    "open": "open",
    # Who may decide stands in JSON text, which the store does not look into.
    "mine": "open",
    "unassigned": "unassigned",
    "overdue": "overdue",
    "done": "done",
}


class ResumeInput(Wire):
    """The body of ``run.resume``; the decision's own model is read where it is decided."""

    run_id: _Id
    expected_plan_version: Annotated[int, Field(ge=1)] | None = None
    prompt_id: _Id | None = None
    decision: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that goes on: stream what comes after frame ``after``."""

    run_id: str
    after: int


class Prompts:
    """The use cases of prompts. Storage failures are raised, never shown as an empty list (H7)."""

    def __init__(self, database: Database, desk: Desk, clock: Clock, control: Control | None = None) -> None:
        """Take what is needed; without ``control`` a pause is not ended by ``run.resume``."""
        self._database, self._desk, self._clock = database, desk, clock
        self._control = control

    async def list(
        self,
        principal: Principal,
        *,
        view: str | None = None,
        status: str | None = None,
        run_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Return ``{"items": [Prompt], "next_cursor": …}``, newest first; open ones without view and status.

        Views: ``mine`` (open, the caller may decide and nobody else has claimed), ``unassigned`` (open, claimed by
        nobody), ``overdue`` (open, past their due time), ``done`` (no longer open). ``status`` narrows further. A page
        may be shorter than ``limit`` and still have a next one. Raises BadQuery for a foreign cursor, RunNotFound.
        """
        if run_id is not None:
            await self._run(principal, run_id)
        chosen, fits = _selection(principal, view, status)
        found: builtins.list[PromptRow] = []
        for _ in range(MAX_PAGES):
            page = await rows.page(
                self._database, principal.tenant, view=chosen, limit=limit, cursor=cursor, run_id=run_id,
                viewer=principal.subject, now_ms=self._clock.now_ms(),
            )  # fmt: skip
            fitting = [row for row in page.rows if fits(row)]
            room = limit - len(found)
            found += fitting[:room]
            cursor = page.next_cursor
            if len(fitting) > room:
                cursor = encode(found[-1].created_at, found[-1].prompt_id)
            if cursor is None or len(found) == limit:
                break
        return {"items": await shown(self._database, principal.tenant, found), "next_cursor": cursor}

    async def get(self, principal: Principal, prompt_id: str) -> dict[str, Any]:
        """Return one prompt with its votes. Raises PromptNotFound, RunPruned."""
        row = await rows.get(self._database, principal.tenant, prompt_id)
        if row is None:
            raise await prompt_gone_or_missing(self._database, principal.tenant, prompt_id)
        return (await shown(self._database, principal.tenant, [row]))[0]

    async def decide(self, principal: Principal, prompt_id: str, body: Any, channel: str = "http") -> dict[str, Any]:
        """Decide a prompt; return ``{"decision": …, "prompt": {"status"}, "run": {"status"}}`` (wire §5).

        Raises what :meth:`hitl.desk.Desk.decide` raises, and Unprocessable for a body that is no decision.
        """
        said = read_model(DecisionInput, body, Unprocessable)
        try:
            decided = await self._desk.decide(principal, prompt_id, said, channel)
        except PromptNotFound as error:
            raise await prompt_gone_or_missing(self._database, principal.tenant, prompt_id) from error
        run = await self._run(principal, decided.run_id)
        return {
            "decision": asdict(decided.decision),
            "prompt": {"status": decided.status},
            "run": {"status": await self._run_status(principal, run, decided)},
        }

    async def resume(self, principal: Principal, body: Any) -> Resumed:
        """Decide a prompt by its run (H10), or end its pause when nobody is asked; stream what follows ``after``.

        Raises RunNotFound, InvalidRunState (the run has ended, or waits for nobody), StalePlanVersion,
        HumanPayloadRequired (people are awaited and no decision was sent), PromptNotFound with the open prompts,
        ServerBusy when the database does not answer (sent again, the decision is stored once), and what deciding
        raises.
        """
        asked = read_model(ResumeInput, body, Unprocessable)
        try:
            return await self._resume(principal, asked)
        except StoreUnavailable as error:
            raise ServerBusy("The database did not answer; send it again.", retry_after=RETRY_SECONDS) from error

    async def _resume(self, principal: Principal, asked: ResumeInput) -> Resumed:
        run = await self._run(principal, asked.run_id)
        if RunStatus(run.status) in RUN_TERMINAL:
            raise InvalidRunState(f"The run is {run.status}.", run_id=run.run_id, run_status=run.status)
        if asked.expected_plan_version not in (None, run.plan_version):
            raise StalePlanVersion(f"The plan has version {run.plan_version}.", plan_version=run.plan_version)
        waiting = await rows.open_of_run(self._database, principal.tenant, run.run_id)
        if asked.prompt_id is None or asked.decision is None:
            if waiting or asked.prompt_id is not None or not _is_paused(run) or self._control is None:
                raise _payload_required(run, waiting)
            await self._control.resume(principal, run.run_id)
            return Resumed(run.run_id, run.last_seq)
        await self._check_prompt(principal, run, asked.prompt_id, waiting)
        await self.decide(principal, asked.prompt_id, asked.decision)
        return Resumed(run.run_id, run.last_seq)

    async def _check_prompt(
        self, principal: Principal, run: RunRow, prompt_id: str, waiting: Sequence[PromptRow]
    ) -> None:
        """Raise PromptNotFound, listing what is open, unless the prompt is one of the run's."""
        row = await rows.get(self._database, principal.tenant, prompt_id)
        if row is None or row.run_id != run.run_id:
            if not waiting:
                raise InvalidRunState("The run waits for nobody.", run_id=run.run_id, run_status=run.status)
            raise PromptNotFound(f"The run has no prompt {prompt_id}.", open_prompts=_brief(waiting))

    async def _run(self, principal: Principal, run_id: str) -> RunRow:
        row = await runs.run_row(self._database, principal.tenant, run_id)
        if row is None:
            raise await gone_or_missing(self._database, principal.tenant, run_id)
        return row

    async def _run_status(self, principal: Principal, run: RunRow, decided: Decided) -> str:
        """Return where the decision leaves the run.

        The signal that makes a waiting run go on is committed with the decision; its holder only has to read it. So a
        run that waited for this prompt alone is shown as running, not as it stood a moment before.
        """
        only_people = set(orjson.loads(run.waiting_on_json)) <= {WaitingOn.HITL.value}
        if run.status != RunStatus.WAITING or not decided.settled or not only_people:
            return run.status
        others = await rows.open_of_run(self._database, principal.tenant, run.run_id)
        return run.status if others else RunStatus.RUNNING.value


async def shown(database: Database, tenant: str, found: Sequence[PromptRow]) -> list[dict[str, Any]]:
    """Return prompts as they stand on the wire, with their votes.

    An open prompt of quorum 1 has none: the first would have settled it.
    """
    voted = [row.prompt_id for row in found if row.status != PromptStatus.OPEN or row.quorum > 1]
    votes = await rows.votes_of_all(database, tenant, voted)
    return [wire(to_prompt(row, votes.get(row.prompt_id, ()))) for row in found]


def _selection(principal: Principal, view: str | None, status: str | None) -> tuple[View, Callable[[PromptRow], bool]]:
    """Return what the store selects and what is left to look at here: assignees and the exact status."""
    if view is None:
        view = "open" if status in (None, PromptStatus.OPEN) else "done"
    if view not in _STORED:
        message = f"One of {', '.join(name for name in _STORED if name != 'open')}."
        raise BadQuery(f"view: {message}", errors=[ErrorItem("/view", "not_allowed", message)])

    def fits(row: PromptRow) -> bool:
        if status is not None and row.status != status:
            return False
        return view != "mine" or (
            row.claimed_by in (None, principal.subject) and may_decide(principal, standing_of(row, policy_of(row)))
        )

    return _STORED[view], fits


def _is_paused(run: RunRow) -> bool:
    return orjson.loads(run.ledger_json).get("paused") is not None


def _payload_required(run: RunRow, waiting: Sequence[PromptRow]) -> Exception:
    if not waiting:
        return InvalidRunState("The run waits for nobody.", run_id=run.run_id, run_status=run.status)
    return HumanPayloadRequired(open_prompts=_brief(waiting))


def _brief(waiting: Sequence[PromptRow]) -> list[dict[str, Any]]:
    return [
        {"prompt_id": row.prompt_id, "question": row.question, "actions": orjson.loads(row.actions_json)}
        for row in waiting
    ]
