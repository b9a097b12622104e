"""Pruning: what is older than its tenant keeps it goes, in small transactions that any process can take up (P6).

A tree of runs goes as a whole and only when all of it ended before the limit. Its tombstones and the deletion of its
run rows are one transaction; what the runs leave behind is deleted afterwards, by whoever finds a tombstone that says
that it is not empty yet. So a crash anywhere costs nothing but time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from contracts.errors import StoreUnavailable
from contracts.ports import Ids
from service.forgetting import Forgetting
from service.retention import Keep, keep_of
from service.summary import stone_of
from store import audit, audit_reads, emptying, idempotency, leases, leftovers, retention, tenants
from store.connect import Database

_log = structlog.get_logger("flex.retention")

RUNS: Final = 100
"""Trees that one transaction buries; their children come on top, as many again."""
ROWS: Final = 500
"""Rows per table that one transaction deletes."""
PLANS: Final = 500
TRIES: Final = 5
PAUSE_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 600.0
FIRST_LOOK_SECONDS: Final = 30.0
BUSY_SECONDS: Final = 120.0
"""How long one look of the background task may take; what is left waits for the next look."""
LEASE: Final = "prune"
LEASE_SECONDS: Final = 60.0
DAY_MS: Final = 86_400_000
DEAD_WORKER_DAYS: Final = 1
SENT_DAYS: Final = 30

Steps = AsyncGenerator[None, None]
"""One step per transaction, so that whoever takes them can pause, or stop, between two."""


class _Undone(Exception):
    """Somebody else is at these runs: the transaction is undone."""


@dataclass(slots=True)
class Tally:
    """What went, or would go: name of a table (and ``trees``) → how many. ``finished``: nothing more was to do."""

    gone: Counter[str] = field(default_factory=Counter)
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What to prune: of one tenant or of all, ended runs by their policy or (``runs_days``) older than so many days."""

    tenant: str | None = None
    runs_days: int | None = None


class Pruner:
    """Prunes, of all tenants; one per process, and one process at a time does it."""

    def __init__(
        self,
        database: Database,
        ids: Ids,
        defaults: Keep,
        *,
        pause_seconds: float = PAUSE_SECONDS,
        count: Callable[[str, int], None] = lambda _table, _many: None,
    ) -> None:
        """``defaults`` hold for tenants without a policy; ``count`` is told of everything that went, by table."""
        self._database, self._ids, self._defaults = database, ids, defaults
        self._pause, self._count = pause_seconds, count
        self._forgetting = Forgetting(database)
        self._swept = False

    async def prune(self, asked: Asked | None = None, max_seconds: float | None = None) -> Tally | None:
        """Prune until nothing is left to do or the time is up; None: another process is at it.

        Raises StoreUnavailable; what went until then is gone, the rest is taken up next time.
        """
        holder, clock, tally = self._ids.new("prn"), self._database.clock, Tally()
        if not await leases.take(self._database, LEASE, holder, LEASE_SECONDS):
            return None
        began = kept = clock.monotonic()
        try:
            async with aclosing(self.steps(asked or Asked(), tally)) as steps:
                async for _ in steps:
                    now = clock.monotonic()
                    if max_seconds is not None and now - began >= max_seconds:
                        tally.finished = False
                        break
                    if now - kept > LEASE_SECONDS / 3:
                        await leases.take(self._database, LEASE, holder, LEASE_SECONDS)
                        kept = now
                    await asyncio.sleep(self._pause)
        finally:
            # If the database is away the lease ends by itself.
            with suppress(StoreUnavailable):
                await leases.give_up(self._database, LEASE, holder)
        return tally

    async def survey(self, asked: Asked | None = None) -> Tally:
        """Return what :meth:`prune` would delete of what tenants keep, without changing anything."""
        asked, tally, now_ms = asked or Asked(), Tally(), self._database.clock.now_ms()
        for tenant in await self._tenants(asked):
            keep = await self._keep(tenant, asked)
            if keep.runs_days is not None:
                await self._survey_trees(tenant, now_ms - keep.runs_days * DAY_MS, tally)
            if keep.audit_days is not None:
                before_ms = now_ms - keep.audit_days * DAY_MS
                tally.gone["audit_records"] += await audit_reads.count_before(self._database, tenant, before_ms)
            tally.gone.update(await self._forgetting.survey(tenant, keep, now_ms))
        tally.gone = +tally.gone
        return tally

    async def run(self, look_seconds: float = LOOK_SECONDS, first_seconds: float = FIRST_LOOK_SECONDS) -> None:
        """Prune every ``look_seconds`` until cancelled, a bounded time each; what goes wrong is tried again."""
        await asyncio.sleep(first_seconds)
        while True:
            try:
                tally = await self.prune(max_seconds=BUSY_SECONDS)
                if tally is not None and tally.gone:
                    _log.info("pruned", finished=tally.finished, **tally.gone)
            except StoreUnavailable as error:
                _log.warning("pruning_failed", error=error.message)
            except Exception:  # noqa: BLE001  # one broken look must not end all pruning; the log has it
                _log.exception("pruning_broke")
            await asyncio.sleep(look_seconds)

    # --- steps ---

    async def steps(self, asked: Asked, tally: Tally) -> Steps:
        """Prune, yielding after every transaction; whether another process is at it is not asked. Stop where you like.

        Raises StoreUnavailable.
        """
        now_ms = self._database.clock.now_ms()
        async for _ in self._empty(tally):
            yield
        for tenant in await self._tenants(asked):
            keep = await self._keep(tenant, asked)
            if keep.runs_days is not None:
                async for _ in self._trees(tenant, now_ms - keep.runs_days * DAY_MS, tally):
                    yield
            if keep.audit_days is not None:
                async for _ in self._records(tenant, now_ms - keep.audit_days * DAY_MS, tally):
                    yield
            async for _ in self._forgetting.steps(tenant, keep, now_ms, partial(self._note, tally)):
                yield
        if asked.tenant is None:
            async for _ in self._leftovers(now_ms, tally):
                yield
        if tally.gone["runs"] or not self._swept:
            async for _ in self._plans(tally):
                yield
            self._swept = True

    async def _tenants(self, asked: Asked) -> list[str]:
        if asked.tenant is not None:
            return [asked.tenant]
        looks = (tenants.with_runs, tenants.with_records, tenants.with_kept)
        return sorted({tenant for look in looks for tenant in await look(self._database)})

    async def _keep(self, tenant: str, asked: Asked) -> Keep:
        if asked.runs_days is not None:
            return Keep(asked.runs_days, None)
        async with self._database.reader() as reader:
            return await keep_of(reader, tenant, self._defaults)

    async def _trees(self, tenant: str, before_ms: int, tally: Tally) -> Steps:
        place = retention.FIRST
        while roots := await retention.ended_trees(self._database, tenant, before_ms, place, limit=RUNS):
            names = [root.run_id for root in roots]
            children = await retention.children_of(self._database, tenant, names, RUNS + 1)
            if len(children) <= RUNS:
                place = roots[-1]
                tally.gone["trees"] += (
                    len(names) if await self._bury(tenant, [*names, *children], before_ms, tally) else 0
                )
            else:
                place = roots[0]
                async for _ in self._large_tree(tenant, names[0], before_ms, tally):
                    yield
            yield
            async for _ in self._empty(tally):
                yield

    async def _large_tree(self, tenant: str, root: str, before_ms: int, tally: Tally) -> Steps:
        """Bury a tree in several transactions, its root last: until then it is found again after a crash."""
        while True:
            part = await retention.children_of(self._database, tenant, [root], RUNS)
            last = len(part) < RUNS
            if not await self._bury(tenant, [*part, root] if last else part, before_ms, tally):
                return
            yield
            if last:
                tally.gone["trees"] += 1
                return

    async def _bury(self, tenant: str, run_ids: list[str], before_ms: int, tally: Tally) -> bool:
        """Write tombstones and delete the run rows, all or none; False: another process was faster."""
        now_ms = self._database.clock.now_ms()
        stones = [stone_of(remains, now_ms) for remains in await retention.remains_of(self._database, run_ids)]
        try:
            async with self._database.unit() as unit:
                if len(stones) != len(run_ids) or not await retention.bury(unit, tenant, stones, before_ms):
                    raise _Undone
        except _Undone:
            return False
        self._note(tally, "runs", len(stones))
        return True

    async def _empty(self, tally: Tally) -> Steps:
        """Delete what pruned runs have left, also what an earlier pass did not get to."""
        while run_ids := await emptying.unemptied(self._database, RUNS):
            empty = False
            while not empty:
                async with self._database.unit() as unit:
                    gone, empty = await emptying.empty_some(unit, run_ids, self._database.clock.now_ms(), ROWS)
                for table, many in gone.items():
                    self._note(tally, table, many)
                yield

    async def _records(self, tenant: str, before_ms: int, tally: Tally) -> Steps:
        """Delete old audit records, and tombstones as old."""
        many = ROWS
        while many == ROWS:
            async with self._database.unit() as unit:
                many = await audit.prune_prefix(unit, tenant, before_ms, self._database.clock.now_ms(), ROWS)
            self._note(tally, "audit_records", many)
            yield
        more = True
        while more:
            async with self._database.unit() as unit:
                many, more = await emptying.drop_stones(unit, tenant, before_ms, RUNS)
            self._note(tally, "tombstones", many)
            yield

    async def _leftovers(self, now_ms: int, tally: Tally) -> Steps:
        many = ROWS
        while many == ROWS:
            many = await idempotency.sweep(self._database, now_ms, ROWS)
            self._note(tally, "idempotency_keys", many)
            yield
        for table, drop, days in (
            ("workers", leftovers.drop_workers, DEAD_WORKER_DAYS),
            ("notifications", leftovers.drop_sent, SENT_DAYS),
        ):
            many = ROWS
            while many == ROWS:
                async with self._database.unit() as unit:
                    many = await drop(unit, now_ms - days * DAY_MS, ROWS)
                self._note(tally, table, many)
                yield

    async def _plans(self, tally: Tally) -> Steps:
        place: leftovers.PlanKey | None = leftovers.FIRST
        while place is not None:
            unused, place = await leftovers.unused_plans(self._database, place, PLANS)
            for tenant in sorted({key.tenant for key in unused}):
                documents = [key.document for key in unused if key.tenant == tenant]
                self._note(tally, "plans", await self._drop_plans(tenant, documents))
            yield

    async def _drop_plans(self, tenant: str, documents: list[str]) -> int:
        for _ in range(TRIES):
            try:
                async with self._database.unit() as unit:
                    return await leftovers.drop_plans(unit, tenant, documents)
            except StoreUnavailable:
                # Runs are being accepted this very moment.
                await asyncio.sleep(self._pause)
        return 0

    async def _survey_trees(self, tenant: str, before_ms: int, tally: Tally) -> None:
        place = retention.FIRST
        while roots := await retention.ended_trees(self._database, tenant, before_ms, place, limit=RUNS):
            place = roots[-1]
            names = [root.run_id for root in roots]
            runs = names + await retention.children_of(self._database, tenant, names, 1_000_000)
            tally.gone.update({"trees": len(names), "runs": len(runs)})
            for start in range(0, len(runs), ROWS):
                found = await emptying.count_rows(self._database, runs[start : start + ROWS])
                tally.gone.update({str(table): many for table, many in found.items()})

    def _note(self, tally: Tally, table: str, many: int) -> None:
        if many:
            # A table's name is SQLAlchemy's own kind of text, which no encoder takes for a key.
            name = str(table)
            tally.gone[name] += many
            self._count(name, many)
