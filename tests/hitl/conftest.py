"""A run that waits for people, on a real database, and the desk at which they decide."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from contracts.access import Principal
from contracts.prompts import ACTIONS, DecisionInput, PromptKind, PromptPolicy
from hitl.desk import Decided, Desk
from hitl.hands import Hands
from hitl.sweep import Sweep
from service.batches import Batches
from service.handing import Handing
from service.prompts import Prompts
from store import tables as t
from store.connect import Database
from store.journal import Journal
from store.rows import Birth, EventRow, PromptRow, RunRow, RunWrite, SignalRow
from store.signals import signals_after
from store.statement import Statement, text

SCHEMA = {
    "type": "object",
    "required": ["variants"],
    "properties": {"variants": {"type": "array", "items": {"type": "string", "minLength": 3}}},
}


@dataclass
class Clock:
    """Time that stands still unless a test moves it."""

    now: int = 1_767_603_600_000

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1_000


@dataclass
class Ids:
    """Numbered ids that sort like real ones."""

    count: int = 0

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.count:026}"


@dataclass
class Nudges:
    """Remembers who was told to look."""

    told: list[tuple[str, str | None]] = field(default_factory=list)

    def run(self, run_id: str, worker: str | None) -> None:
        self.told.append((run_id, worker))

    def events(self, run_id: str, seq: int) -> None:
        raise AssertionError("only holders write events")


def operator(name: str) -> Principal:
    return Principal(f"user:{name}", roles=frozenset({"operator"}))


class Office:
    """Everything a test needs to let people decide."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self.database, self._journal = database, journal
        self.clock, self.ids, self.nudges = Clock(), Ids(), Nudges()
        self.desk = Desk(database, self.clock, self.ids, self.nudges)
        self.sweep = Sweep(database, self.clock, self.ids, self.nudges)
        self.prompts = Prompts(database, self.desk, self.clock)
        self.hands = Hands(database, self.clock, self.ids, self.nudges)
        self.handing = Handing(database, self.hands)
        self.batches = Batches(database, self.desk)

    async def run(
        self, *prompts: PromptRow, run_id: str = "run_1", status: str = "waiting", tenant: str = "default"
    ) -> None:
        """A run that the worker ``w1`` holds and whose people are asked."""
        now, terminal = self.clock.now_ms(), status in ("completed", "failed", "cancelled")
        waiting_on = '["hitl"]' if status == "waiting" else "[]"
        row = RunRow(
            run_id,
            tenant,
            "user:ana",
            status,
            waiting_on,
            None if terminal else "w1",
            1,
            1,
            0,
            0,
            None,
            1,
            None,
            "cid",
            "x",
            "c",
            "{}",
            now,
            now,
            now if terminal else None,
        )
        event = EventRow(1, "start", None, b"{}")
        write = RunWrite(run_id, tenant, 1, 0, 1, status, waiting_on, prompts=list(prompts), events=[event])
        await self._journal.birth(Birth(row, "{}", write))

    async def end(self, run_id: str = "run_1") -> None:
        """The run is cancelled by its holder."""
        await self._journal.append(RunWrite(run_id, "default", 1, 1, 2, "cancelled", ended_at=self.clock.now_ms()))

    def prompt(self, prompt_id: str = "prm_1", run_id: str = "run_1", **changed: Any) -> PromptRow:
        """An open approval for operators unless told otherwise."""
        given: dict[str, Any] = {
            "kind": "approval", "quorum": 1, "due_at": None, "on_timeout": "wait", "assignees": {"roles": ["operator"]},
            "schema": SCHEMA, "tenant": "default", "claimed_by": None, "proposed": {"variants": []}, "policy": {},
            "requester": "user:ana", "notify_at": None, "actions": None,
        } | changed  # fmt: skip
        frozen = PromptPolicy.model_validate(given["policy"])
        return PromptRow(
            prompt_id=prompt_id,
            run_id=run_id,
            tenant=given["tenant"],
            node_id="sign_off",
            kind=given["kind"],
            status="open",
            question="Publish these?",
            proposed_json=orjson.dumps(given["proposed"]).decode(),
            answer_schema_json=orjson.dumps(given["schema"]).decode(),
            actions_json=orjson.dumps(given["actions"] or ACTIONS[PromptKind(given["kind"])]).decode(),
            assignees_json=orjson.dumps(given["assignees"]).decode(),
            quorum=given["quorum"],
            policy_id="sign_off",
            plan_version=1,
            bound_hash="h1",
            on_timeout=given["on_timeout"],
            created_at=self.clock.now_ms(),
            due_at=given["due_at"],
            claimed_by=given["claimed_by"],
            policy_json=frozen.model_dump_json(),
            requester=given["requester"],
            notify_at=given["notify_at"],
        )

    async def say(self, who: Principal | str, action: str, prompt_id: str = "prm_1", **more: Any) -> Decided:
        """Somebody decides."""
        principal = operator(who) if isinstance(who, str) else who
        return await self.desk.decide(principal, prompt_id, DecisionInput(action=action, **more), "http")

    async def mail(self, run_id: str = "run_1") -> list[dict[str, Any]]:
        """The signals that the run's holder will read."""
        found: list[SignalRow] = await signals_after(self.database, run_id)
        assert all(signal.kind == "decision" for signal in found)
        return [orjson.loads(signal.payload_json) for signal in found]

    async def records(self, prompt_id: str = "prm_1") -> list[dict[str, Any]]:
        """What was written down about a prompt, in the order of the moves: the record's columns and its body's."""
        columns = t.audit_records.c
        query = Statement(
            sa.select(columns.kind, columns.actor, columns.at, columns.run_id, columns.body_json)
            .where(columns.prompt_id == text("prompt_id"))
            .order_by(columns.at, columns.record_id)
        )
        async with self.database.near() as reader:
            rows = await reader.fetch(query, prompt_id=prompt_id)
        names = ("kind", "actor", "at", "run_id")
        return [{**dict(zip(names, row, strict=False)), **orjson.loads(row[4])} for row in rows]

    async def kinds(self, prompt_id: str = "prm_1") -> list[str]:
        """The kinds of those records."""
        return [str(record["kind"]) for record in await self.records(prompt_id)]


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """An office on each database."""
    async with AsyncExitStack() as stack:
        database = await Database.open(database_url, clock=Clock())
        stack.push_async_callback(database.close)
        journal = Journal(database)
        await journal.start()
        stack.push_async_callback(journal.close)
        yield Office(database, journal)
