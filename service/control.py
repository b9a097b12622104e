"""Whatever somebody asks of a living run: left as a signal with its audit record, answered by the run's holder (§4).

Every door to such a thing goes through :meth:`Control.ask`: rights, one transaction, a nudge, and a bounded wait for
what the holder makes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.errors import InvalidRunState, Unprocessable
from contracts.ids import AUDIT
from contracts.lifecycle import RUN_TERMINAL, RunStatus
from contracts.wire import Wire, read_model
from engine.shell import Shell
from events.watch import Watch
from service.gone import gone_or_missing
from service.rights import check_control
from store import audit as records
from store import runs, signals
from store.audit import AuditRow
from store.rows import RunRow
from store.signals import Left

ANSWER_SECONDS: Final = 2.0
"""How long a door waits for the holder's answer before it says 202."""
LOOK_SECONDS: Final = 0.25
"""How often the signal's row is read again while no word comes from the process that holds the run."""
May = Callable[[Principal, str], None]
"""(caller, who started the run): raises ``Forbidden`` unless the caller may do it."""


class ReasonInput(Wire):
    """Why, for whoever reads the record."""

    reason: Annotated[str, Field(min_length=1, max_length=4_000)] | None = None


class NothingInput(Wire):
    """A body without members."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a signal; ``outcome`` is ``applied``, ``superseded``, ``late``, or None: not answered yet.

    ``run`` is its row as it stands now.
    """

    run: RunRow
    outcome: str | None

    @property
    def answered(self) -> bool:
        """Say whether the holder has answered (200), or will (202)."""
        return self.outcome is not None

    def applied(self, superseded: str) -> Asked:
        """Return itself unless it came too late: raise ``InvalidRunState``; ``superseded`` says why it had no use."""
        if self.outcome == "superseded":
            raise invalid(self.run, superseded)
        if self.outcome == "late":
            raise invalid(self.run, f"The run is {self.run.status}.")
        return self

    def wire(self) -> dict[str, Any]:
        """Return ``{"run_id", "status", "waiting_on"}``."""
        waiting_on = orjson.loads(self.run.waiting_on_json)
        return {"run_id": self.run.run_id, "status": self.run.status, "waiting_on": waiting_on}


class Control:
    """Leaves signals and waits for their answers; no state of its own."""

    def __init__(self, shell: Shell) -> None:
        """Work with what this process's walkers share."""
        self._shell = shell
        self._database = shell.database

    async def ask(
        self,
        principal: Principal,
        run_id: str,
        kind: str,
        payload: Mapping[str, Any],
        audit: str | None = None,
        *,
        may: May = check_control,
        told: Mapping[str, Any] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Asked:
        """Leave a signal on behalf of a person, with an audit record of kind ``audit`` in the same transaction.

        ``payload`` is the signal's (docs/decisions/0006), ``told`` what the record says of it if that is not the same.
        Waits ``seconds`` at most for the answer; with 0 not at all.
        Raises ``RunNotFound``, ``RunPruned``, ``Forbidden``, ``InvalidRunState`` (the run has ended),
        ``StoreUnavailable``; then nothing was left.
        """
        run = await self.run_of(principal.tenant, run_id)
        may(principal, run.principal)
        record = None if audit is None else self._record(principal, run_id, audit, told or payload)
        left = await self.leave(run, kind, payload, record)
        return await self.answer(run, left.signal_id, seconds)

    async def cancel(self, principal: Principal, run_id: str, reason: str | None = None) -> dict[str, Any]:
        """Ask a run to end; the terminal frame follows when its holder has read the signal.

        Raises what :meth:`ask` raises; asking twice is fine until the run has ended.
        """
        asked = {"by": principal.subject, "reason": reason}
        await self.ask(principal, run_id, "cancel", asked, "run.cancelled", seconds=0)
        return {"run_id": run_id, "status": "cancelling"}

    async def pause(self, principal: Principal, run_id: str, body: Any = None) -> Asked:
        """Let nothing more be started; what runs may end. Body: ``{"reason"?}``. Pausing twice is fine."""
        given = read_model(ReasonInput, {} if body is None else body, Unprocessable)
        asked = {"by": principal.subject, "reason": given.reason}
        return (await self.ask(principal, run_id, "pause", asked, "run.paused")).applied("")

    async def resume(self, principal: Principal, run_id: str, body: Any = None) -> Asked:
        """End the pause. Body: ``{}``. Raises ``InvalidRunState`` for a run that is not paused."""
        read_model(NothingInput, {} if body is None else body, Unprocessable)
        asked = await self.ask(principal, run_id, "resume", {"by": principal.subject}, "run.resumed")
        return asked.applied("The run is not paused.")

    async def run_of(self, tenant: str, run_id: str) -> RunRow:
        """Return the run's row; raise ``RunNotFound`` or ``RunPruned``."""
        row = await runs.run_row(self._database, tenant, run_id)
        if row is None:
            raise await gone_or_missing(self._database, tenant, run_id)
        return row

    async def leave(self, run: RunRow, kind: str, payload: Mapping[str, Any], record: AuditRow | None = None) -> Left:
        """Leave a signal and nudge the holder. Raises ``InvalidRunState`` for a run that has ended."""
        text = orjson.dumps(payload).decode()
        async with self._database.unit("signal") as unit:
            left = await signals.leave(unit, run.run_id, run.tenant, kind, text, self._shell.clock.now_ms())
            if left is not None and record is not None:
                await records.add(unit, record)
        if left is None:
            now = await self.run_of(run.tenant, run.run_id)
            raise invalid(now, f"The run is {now.status}.")
        self._shell.nudge.run(run.run_id, left.worker)
        return left

    async def answer(self, run: RunRow, signal_id: int, seconds: float = ANSWER_SECONDS) -> Asked:
        """Wait for a signal's answer, ``seconds`` at most; return it with the run as it stands then."""
        outcome = None if seconds <= 0 else await self._outcome(run, signal_id, seconds)
        return Asked(await self.run_of(run.tenant, run.run_id), outcome)

    async def _outcome(self, run: RunRow, signal_id: int, seconds: float) -> str | None:
        told = self._shell.outcomes.expect(run.run_id, signal_id)
        watch = self._shell.feed.watch(run.tenant, run.run_id, run.last_seq)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    row = await signals.signal(self._database, run.tenant, run.run_id, signal_id)
                    if row is None or row.outcome is not None:
                        return None if row is None else row.outcome
                    await _stir(told, watch)
        except TimeoutError:
            return None
        finally:
            told.cancel()
            watch.close()

    def _record(self, principal: Principal, run_id: str, kind: str, payload: Mapping[str, Any]) -> AuditRow:
        return AuditRow(
            record_id=self._shell.ids.new(AUDIT),
            tenant=principal.tenant,
            at=self._shell.clock.now_ms(),
            kind=kind,
            actor=principal.subject,
            run_id=run_id,
            prompt_id=None,
            body_json=orjson.dumps({name: value for name, value in payload.items() if name != "by"}).decode(),
        )


def invalid(run: RunRow, why: str) -> InvalidRunState:
    """Return the 409 for a run in another state."""
    return InvalidRunState(why, run_id=run.run_id, run_status=run.status)


def has_ended(run: RunRow) -> bool:
    """Say whether the run is at its end."""
    return RunStatus(run.status) in RUN_TERMINAL


async def _stir(told: asyncio.Future[str], watch: Watch) -> None:
    """Wait until this process was told, the run said something, or it is time to look again."""
    said = asyncio.ensure_future(watch.batch())
    either: set[asyncio.Future[Any]] = {told, said}
    try:
        await asyncio.wait(either, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if said.done() and not said.result():
            # The log has ended, or this process is going down: only the row can tell.
            await asyncio.wait({told}, timeout=LOOK_SECONDS)
    finally:
        said.cancel()
