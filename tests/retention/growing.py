"""Runs with everything that a run can leave in the database, and a look at every table."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from app.system import SystemIds
from service.pruning import DAY_MS, Asked, Pruner, Tally
from service.retention import Keep
from store import tables as t
from store.connect import Database
from store.journal import Journal
from store.rows import Birth
from store.statement import Statement
from tests.store.making import NOW, TENANT, Hands, event, new_id, node, plan, prompt, run, write

KEEP = Keep(365, 3_650)
TERMINAL = ("completed", "failed", "cancelled")
FRAMES = 4


@dataclass
class Sown:
    """A run as a test wants it: how many days ago it ended (0: it has not), and the runs below it."""

    days: int = 400
    status: str = "completed"
    tenant: str = TENANT
    plan_text: str = '{"nodes":[]}'
    children: Sequence[Sown] = ()
    origin: str | None = None
    run_id: str = field(default_factory=new_id)
    now: int = NOW
    """what the days are counted from"""

    @property
    def ended_at(self) -> int | None:
        """When it ended."""
        return self.now - self.days * DAY_MS if self.status in TERMINAL else None

    def all(self) -> Iterable[Sown]:
        """This run and all below it."""
        yield self
        for child in self.children:
            yield from child.all()


@dataclass
class Ground:
    """A database with a journal, and a clock moved by hand."""

    database: Database
    journal: Journal
    clock: Hands

    def pruner(self, keep: Keep = KEEP) -> Pruner:
        return Pruner(self.database, SystemIds(), keep, pause_seconds=0)

    async def prune(self, asked: Asked | None = None, keep: Keep = KEEP) -> Tally:
        tally = await self.pruner(keep).prune(asked)
        assert tally is not None
        return tally

    async def sow(self, *trees: Sown) -> None:
        """Write trees of runs, each run with a row in every table."""
        for tree in trees:
            await self._sow(tree, None, None)

    async def _sow(self, sown: Sown, parent: Sown | None, root: Sown | None) -> None:
        await self.journal.birth(_birth(sown, parent, root))
        await self.put(*_belongings(sown))
        for child in sown.children:
            await self._sow(child, sown, root or sown)

    async def put(self, *rows: tuple[sa.Table, dict[str, Any]]) -> None:
        """Insert rows as they are."""
        async with self.database.unit() as unit:
            for table, values in rows:
                await unit.execute(Statement(sa.insert(table).values(**values)))

    async def counts(self) -> Counter[str]:
        """How many rows every table has, empty ones left out."""
        found: Counter[str] = Counter()
        async with self.database.reader() as reader:
            for table in t.metadata.sorted_tables:
                ((many,),) = await reader.fetch(Statement(sa.select(sa.func.count()).select_from(table)))
                found[table.name] = many
        return +found

    async def has(self, table: str, many: int) -> bool:
        """Whether a table has so many rows."""
        return (await self.counts())[table] == many

    async def ids(self, table: sa.Table) -> set[str]:
        """The ids of the runs that have rows in a table."""
        async with self.database.reader() as reader:
            return {row[0] for row in await reader.fetch(Statement(sa.select(table.c.run_id).distinct()))}

    async def everything(self, run_ids: Iterable[str]) -> dict[str, list[Any]]:
        """Every row of these runs in every table, to see that none was touched; keys expire by themselves."""
        wanted, found = set(run_ids), {}
        async with self.database.reader() as reader:
            for table in t.metadata.sorted_tables:
                if "run_id" in table.c and table is not t.idempotency_keys:
                    rows = [tuple(row) for row in await reader.fetch(Statement(sa.select(table)))]
                    place = list(table.c.keys()).index("run_id")
                    found[table.name] = sorted((row for row in rows if row[place] in wanted), key=repr)
        return found


def _birth(sown: Sown, parent: Sown | None, root: Sown | None) -> Birth:
    ended, began = sown.ended_at, sown.now - (sown.days + 1) * DAY_MS
    prompted = prompt(sown.run_id, f"prm_{sown.run_id}", tenant=sown.tenant, status="settled", settled_at=NOW)
    last = event(FRAMES)
    last.type, last.data = "failed", b'{"type":"failed","payload":{"code":"node_failed"}}'
    made = write(
        sown.run_id, 0, FRAMES, status=sown.status, tenant=sown.tenant, ended_at=ended,
        nodes={name: node(name, "completed") for name in ("a", "b")}, prompts=[prompted],
        ledger_json='{"tokens":7,"cost":0.5,"waited_ms":1000}', plan=plan(1, sown.plan_text), plan_hash="hash-1",
    )  # fmt: skip
    made.events[-1] = last
    row = run(
        sown.run_id, tenant=sown.tenant, worker=None if ended is not None else "w1", status=sown.status,
        created_at=began, started_at=began, ended_at=ended,
        last_seq=FRAMES,
        root_run_id=None if root is None else root.run_id, parent_run_id=None if parent is None else parent.run_id,
        parent_node_id=None if parent is None else "a", origin_run_id=sown.origin,
    )  # fmt: skip
    envelope = '{"objective":"Write","workflow":{"flow_id":"weekly"},"policies":{"planner":{"strategy":"search"}}}'
    return Birth(row, envelope, made, key=f"key of {sown.run_id}", fingerprint="f", key_expires_at=NOW - DAY_MS)


def _belongings(sown: Sown) -> list[tuple[sa.Table, dict[str, Any]]]:
    """What doors and people write about a run."""
    ids = {"prompt_id": f"prm_{sown.run_id}", "tenant": sown.tenant}
    return [
        (t.decisions, {
            "decision_id": f"dec_{sown.run_id}", "run_id": sown.run_id, "action": "approve", "decided_by": "user:ana",
            "decided_at": NOW, "channel": "http", "winning": True, **ids,
        }),
        (t.signals, {
            "run_id": sown.run_id, "signal_id": 1, "kind": "decision", "payload_json": "{}", "created_at": NOW,
            "outcome": "applied",
        }),
        (t.notifications, {
            "notification_id": f"ntf_{sown.run_id}", "run_id": sown.run_id, "kind": "raised", "recipient": "user:ana",
            "created_at": NOW, "attempts": 1, **ids,
        }),
        (t.review_links, {
            "link_id": f"lnk_{sown.run_id}", "subject": "user:ana", "roles_json": "[]", "groups_json": "[]",
            "expires_at": NOW, **ids,
        }),
    ]  # fmt: skip


@asynccontextmanager
async def grounds(url: str) -> AsyncIterator[Ground]:
    """A database to sow in."""
    clock = Hands()
    database = await Database.open(url, clock=clock, pool_size=3, readers=1)
    journal = Journal(database)
    await journal.start()
    try:
        yield Ground(database, journal, clock)
    finally:
        await journal.close()
        await database.close()
