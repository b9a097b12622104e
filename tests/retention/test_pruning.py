"""What is older than it is kept goes, all of it, and nothing else (P6)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
import pytest
import sqlalchemy as sa

from contracts.errors import StoreUnavailable
from service.pruning import DAY_MS, Asked, Tally
from service.retention import Keep
from store import emptying, leases, leftovers
from store import tables as t
from store.connect import Database
from store.conversation_tables import conversation_messages
from store.history_tables import history
from store.memory_tables import memory_entries
from store.retention import PolicyRow, put_policy
from store.statement import Statement
from store.tombstones import tombstone, tombstone_of_prompt
from tests.retention.growing import FRAMES, KEEP, Ground, Sown, grounds
from tests.store.making import NOW, TENANT

_SAID: Final = {"way": "planned", "trigger": "api", "objective": "", "preview": "", "words": ""}
_COUNTED: Final = {"duration_ms": 1, "waited_ms": 0, "asks": 0, "tokens": 0, "cost": 0}
_OF_RUN: Final = ("run_id", "tenant", "principal", "status", "created_at", "ended_at")
REMEMBER: Final = Statement(
    sa.insert(history).from_select(
        [*_OF_RUN, *_SAID, *_COUNTED],
        sa.select(
            *(t.runs.c[name] for name in _OF_RUN),
            *(sa.literal_column(f"'{value}'") for value in _SAID.values()),
            *(sa.literal_column(str(value)) for value in _COUNTED.values()),
        ),
    )
)
"""A line of the history for every run"""


@pytest.fixture
async def ground(database_url: str) -> AsyncIterator[Ground]:
    async with grounds(database_url) as found:
        yield found


async def test_tables_do_not_grow_for_ever(ground: Ground) -> None:
    """P6; langgraph#8531 (tables grow for ever): after pruning every table has what is still needed, no row more."""
    stay = [Sown(days=10), Sown(days=364), Sown(days=0, status="waiting"), Sown(days=400, tenant="other")]
    async with ground.database.unit() as unit:
        await put_policy(unit, PolicyRow("other", None, None, "user:ana", NOW))
    await ground.sow(*stay)
    before = await ground.counts()
    old = [Sown(days=366 + number % 50, plan_text=f'{{"n":{number % 7}}}') for number in range(200)]
    await ground.sow(*old)
    grown = await ground.counts()
    assert all(grown[table] - before[table] >= 200 for table in ("runs", "events", "nodes", "prompts", "signals"))

    tally = await ground.prune()

    left = await ground.counts()
    assert left.pop("tombstones") == left.pop("pruned_prompts") == 200
    # Expired keys go with the rest, those of the runs that stay too; the lease was given up.
    assert before.pop("idempotency_keys") == 4
    assert left == before
    assert tally.finished
    assert dict(tally.gone) == {
        "trees": 200, "runs": 200, "events": 200 * FRAMES, "nodes": 400, "signals": 200, "run_plans": 200,
        "envelopes": 200, "decisions": 200, "notifications": 200, "review_links": 200, "prompts": 200,
        "idempotency_keys": 204, "plans": 7,
    }  # fmt: skip
    assert (await ground.prune()).gone == {}


async def test_every_table_that_knows_runs_is_known_here() -> None:
    """P6: whoever adds a table says how its rows go; this list is where it shows when nobody did."""
    of_runs = {table.name for table in t.metadata.sorted_tables if {"run_id", "prompt_id"} & set(table.c.keys())}
    emptied = {table.name for table in (*emptying.OF_RUNS, *emptying.OF_PROMPTS)} | {"runs", "prompts"}
    # The history, what is remembered, and what was said outlive the run that wrote them.
    outlives = {history.name, memory_entries.name, conversation_messages.name}
    otherwise = {"idempotency_keys", "audit_records", "tombstones", "pruned_prompts"} | outlives
    assert of_runs == emptied | otherwise


async def test_a_tombstone_says_what_there_was(ground: Ground) -> None:
    """P6: a history summary survives, and it has nothing of the run's data."""
    child = Sown(days=400, status="failed")
    root = Sown(days=399, children=[child], origin="run_elsewhere")
    await ground.sow(root)
    await ground.prune()
    stone = await tombstone(ground.database, TENANT, root.run_id)
    assert stone is not None
    assert (stone.pruned_at, stone.emptied_at, stone.created_at) == (NOW, NOW, NOW - 400 * DAY_MS)
    assert orjson.loads(stone.summary_json) == {
        "status": "completed", "objective": "Write", "principal": "user:ana", "correlation_id": "cid-1",
        "flow": "weekly", "strategy": "search", "plan_hash": "hash-1", "plan_version": 1, "contract_hash": "c",
        "created_at": "2022-10-10T22:13:20.000Z", "started_at": "2022-10-10T22:13:20.000Z",
        "ended_at": "2022-10-11T22:13:20.000Z", "duration_ms": DAY_MS - 1_000, "waited_ms": 1_000,
        "usage": {"tokens": 7, "cost": 0.5}, "events": FRAMES, "nodes": {"completed": 2}, "prompts": 1,
        "error_code": None, "root_run_id": None, "parent_run_id": None, "parent_node_id": None,
        "origin_run_id": "run_elsewhere", "origin_node_id": None,
    }  # fmt: skip
    of_child = await tombstone_of_prompt(ground.database, TENANT, f"prm_{child.run_id}")
    assert of_child is not None
    summary = orjson.loads(of_child.summary_json)
    assert (summary["error_code"], summary["root_run_id"], summary["parent_node_id"]) == (
        "node_failed", root.run_id, "a",
    )  # fmt: skip
    assert await tombstone(ground.database, "other", root.run_id) is None
    assert await tombstone_of_prompt(ground.database, "other", f"prm_{child.run_id}") is None


async def test_a_large_tree_goes_in_pieces_its_root_last(ground: Ground) -> None:
    """P6: bounded transactions; whoever dies in the middle finds the tree again by its root."""
    root = Sown(children=[Sown(children=[Sown() for _ in range(30)]) for _ in range(8)])
    await ground.sow(root, Sown(days=5))
    names = {each.run_id for each in root.all()}
    steps, present = ground.pruner().steps(Asked(), Tally()), names
    async for _ in steps:
        present = names & await ground.ids(t.runs)
        assert root.run_id in present or not present
        if 0 < len(present) < len(names):
            break
    await steps.aclose()
    assert 100 <= len(names) - len(present) < len(names)
    tally = await ground.prune()
    assert tally.gone["trees"] == 1
    assert await ground.ids(t.events) == await ground.ids(t.runs)
    assert len(await ground.ids(t.tombstones)) == len(names) == 249


async def test_a_survey_counts_and_changes_nothing(ground: Ground) -> None:
    """P6: `flex prune --dry-run` says what would go."""
    await ground.sow(Sown(children=[Sown(), Sown()]), Sown(days=20), Sown(days=1, status="running"))
    before = await ground.counts()
    survey = await ground.pruner().survey()
    assert await ground.counts() == before
    tally = await ground.prune()
    assert survey.gone == {name: many for name, many in tally.gone.items() if name in survey.gone}
    assert set(survey.gone) == {"trees", "runs", "events", "nodes", "signals", "run_plans", "envelopes", "prompts"}


@pytest.mark.parametrize(
    ("asked", "gone"),
    [
        (Asked(), {"old", "other_old"}),
        (Asked(tenant="other"), {"other_old"}),
        (Asked(runs_days=15), {"old", "month", "other_old", "other_month"}),
        (Asked(tenant="other", runs_days=15), {"other_old", "other_month"}),
        (Asked(runs_days=1_000), set()),
    ],
)
async def test_what_was_asked_for(ground: Ground, asked: Asked, gone: set[str]) -> None:
    """P6: one tenant or all, by policy or by age; each tenant's own policy counts for itself."""
    await ground.sow(
        Sown(days=400, run_id="old"), Sown(days=30, run_id="month"), Sown(days=2, run_id="new"),
        Sown(days=400, run_id="other_old", tenant="other"), Sown(days=30, run_id="other_month", tenant="other"),
    )  # fmt: skip
    everybody = await ground.ids(t.runs)
    await ground.prune(asked)
    assert everybody - await ground.ids(t.runs) == gone


async def test_null_keeps_for_ever(ground: Ground) -> None:
    await ground.sow(Sown(days=30_000 // 24))
    assert (await ground.prune(keep=Keep(None, None))).gone["runs"] == 0


async def test_one_process_at_a_time(ground: Ground) -> None:
    """P6: pruning is leased; a lease that was not given up ends by itself."""
    await ground.sow(Sown())
    assert await leases.take(ground.database, "prune", "somebody", 60)
    assert await ground.pruner().prune() is None
    assert not await leases.take(ground.database, "prune", "me", 60)
    ground.clock.ms += 60_000
    assert (await ground.prune()).gone["runs"] == 1
    assert await leases.take(ground.database, "prune", "me", 60)


async def test_two_that_prune_all_the_same_do_no_harm(database_url: str) -> None:
    """P6: a lease can be lost; what two do at once comes out as if one had done it."""
    async with grounds(database_url) as first, grounds(database_url) as second:
        await first.sow(*(Sown(days=366 + number, children=[Sown(), Sown()]) for number in range(70)), Sown(days=3))

        async def work(ground: Ground) -> Tally:
            tally = Tally()
            async for _ in ground.pruner().steps(Asked(), tally):
                await asyncio.sleep(0)
            return tally

        tallies = await asyncio.gather(*(work(ground) for ground in (first, second)))
        assert sum(tally.gone["runs"] for tally in tallies) == 210
        counts = await first.counts()
        assert (counts["tombstones"], counts["runs"], counts["events"]) == (210, 1, FRAMES)


async def test_time_is_bounded(ground: Ground) -> None:
    """P6: what does not fit into the time waits for the next look."""
    await ground.sow(*(Sown(tenant=f"t{number}") for number in range(3)))
    tally = await ground.pruner().prune(max_seconds=0)
    assert tally is not None
    assert not tally.finished
    assert tally.gone["runs"] < 3
    assert (await ground.prune()).finished
    assert (await ground.counts())["tombstones"] == 3


# --- leftovers ---


async def test_dead_workers_and_sent_messages_go(ground: Ground) -> None:
    """P6: a worker that nobody buried goes after a day unless runs are still in its name; sent messages after 30."""
    live = Sown(days=1, status="running")
    await ground.sow(live)

    def worker(name: str, days: float) -> tuple[sa.Table, dict[str, Any]]:
        return t.workers, {"worker_id": name, "beat": 1, "beat_at": NOW - int(days * DAY_MS), "info_json": "{}"}

    def message(name: str, sent: int | None) -> tuple[sa.Table, dict[str, Any]]:
        at = None if sent is None else NOW - sent * DAY_MS
        return t.notifications, {
            "notification_id": name, "tenant": TENANT, "prompt_id": f"prm_{live.run_id}", "run_id": live.run_id,
            "kind": "raised", "recipient": "user:ana", "created_at": NOW, "attempts": 1, "sent_at": at,
        }  # fmt: skip

    await ground.put(
        worker("w1", 9), worker("dead", 2), worker("alive", 0.5), message("old", 31), message("young", 29),
        message("unsent", None),
    )  # fmt: skip
    tally = await ground.prune()
    assert (tally.gone["workers"], tally.gone["notifications"]) == (1, 1)
    async with ground.database.reader() as reader:
        workers = {row[0] for row in await reader.fetch(Statement(sa.select(t.workers.c.worker_id)))}
        messages = {row[0] for row in await reader.fetch(Statement(sa.select(t.notifications.c.notification_id)))}
    assert workers == {"w1", "alive"}
    assert messages == {f"ntf_{live.run_id}", "young", "unsent"}


async def test_summaries_go_when_audit_records_would(ground: Ground) -> None:
    """P6: nothing grows for ever, tombstones neither: they are kept as long as audit records, then it is a 404."""
    await ground.sow(*(Sown() for _ in range(120)))
    async with ground.database.unit() as unit:
        await unit.execute(REMEMBER)
    await ground.prune()
    counts = await ground.counts()
    assert (counts["tombstones"], counts["history"]) == (120, 120)
    ground.clock.ms += 3_650 * DAY_MS
    assert (await ground.prune()).gone["tombstones"] == 0
    ground.clock.ms += 1
    assert (await ground.prune()).gone["tombstones"] == 120
    assert await ground.counts() == {}


async def test_a_plan_goes_with_its_last_run(ground: Ground) -> None:
    """P6: plans are shared between runs; one is deleted when no run refers to it, and only its own tenant's counts."""
    await ground.sow(
        Sown(plan_text='{"a":1}'), Sown(days=5, plan_text='{"a":1}'), Sown(plan_text='{"b":1}'),
        Sown(days=5, plan_text='{"b":1}', tenant="other"),
    )  # fmt: skip
    tally = await ground.prune()
    assert tally.gone["plans"] == 1
    async with ground.database.reader() as reader:
        rows = await reader.fetch(Statement(sa.select(t.plans.c.tenant, t.plans.c.plan_json)))
    assert {tuple(row) for row in rows} == {(TENANT, '{"a":1}'), ("other", '{"b":1}')}


async def test_a_plan_that_a_run_is_just_taking_stays(postgres_url: str) -> None:
    """P6: a run that is being accepted found its plan stored; deleting it then would leave a run without a plan."""
    async with grounds(postgres_url) as ground:
        await ground.sow(Sown(plan_text='{"a":1}'))
        await ground.pruner().prune(Asked(runs_days=3), max_seconds=0)
        async with ground.database.reader() as reader:
            ((document,),) = await reader.fetch(Statement(sa.select(t.plans.c.document)))
            assert document
        async with ground.database.unit() as accepting:
            values = {
                "run_id": "run_new", "version": 1, "tenant": TENANT, "plan_hash": "h", "document": document,
                "author": "planner", "reason": "", "created_at": NOW,
            }  # fmt: skip
            await accepting.execute(Statement(sa.insert(t.run_plans).values(**values)))
            with pytest.raises(StoreUnavailable):
                await _drop(ground.database, document)
        assert await _drop(ground.database, document) == 0
        assert (await ground.counts())["plans"] == 1


async def _drop(database: Database, document: str) -> int:
    async with database.unit() as unit:
        return await leftovers.drop_plans(unit, TENANT, [document])


async def test_a_run_that_ends_later_than_the_limit_keeps_its_tree(ground: Ground) -> None:
    """P6: whole trees: one child that is young, or lives, keeps all of it; a fork of it is a tree of its own."""
    young, live = Sown(days=700, children=[Sown(days=20)]), Sown(days=700, children=[Sown(days=1, status="waiting")])
    fork = Sown(days=500, origin=young.run_id)
    await ground.sow(young, live, fork)
    assert (await ground.prune()).gone["runs"] == 1
    assert await ground.ids(t.runs) == {each.run_id for tree in (young, live) for each in tree.all()}
    assert KEEP.runs_days == 365
