"""Births that wait and puts that release, in every order and at the same time: each wait is told once (R1, R4)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import documents, emptying, runs, signals
from store.connect import Database
from store.documents import Key, PassageRow, VersionRow
from store.journal import Journal
from store.rows import WaitRow
from tests.store.making import NOW, TENANT, birth, new_id, now_of, write

NAMES = ("a", "b", "c")
Told = list[tuple[str, int]]


def key(name: str, story: str = "s") -> Key:
    return Key(TENANT, story, name)


async def put(database: Database, name: str, story: str = "s") -> list[str]:
    """Store a version; return who was released."""
    async with database.unit() as unit:
        head = await documents.lock(unit, key(name, story), NOW)
        row = VersionRow(
            TENANT, story, name, head.version + 1, "text/plain", 1, "digest", "ready", None, 1, 0, "user:ana", NOW
        )
        await documents.add(unit, row, b"x", "x", [PassageRow(0, 0, "x", "x")])
        return [run_id for run_id, _ in await documents.release(unit, key(name, story), row.version, NOW)]


async def remove(database: Database, name: str, story: str = "s") -> None:
    async with database.unit() as unit:
        await documents.lock(unit, key(name, story), NOW)
        await documents.remove(unit, key(name, story), NOW)


async def waiting(journal: Journal, names: list[str], story: str = "s") -> str:
    """Accept a run that saw, before it was written, that it lacks these documents."""
    run_id = new_id()
    born = birth(run_id, worker=None, status="waiting", waiting_on_json='["documents"]')
    waits = [WaitRow(TENANT, story, name, run_id, NOW) for name in names]
    await journal.birth(replace(born, waits=waits))
    return run_id


async def told(database: Database, run_id: str) -> Told:
    """The documents that a run was told of, in order."""
    rows = await signals.signals_after(database, run_id)
    assert [row.signal_id for row in rows] == list(range(1, len(rows) + 1))
    assert (await now_of(database, run_id)).inbox == len(rows)
    payloads = [orjson.loads(row.payload_json) for row in rows if row.kind == "document"]
    return [(payload["document_id"], payload["version"]) for payload in payloads]


async def test_a_document_that_came_just_before_is_told_at_once(database: Database, journal: Journal) -> None:
    """R1: it was missing when the run was looked at and there when it was written; the run is due."""
    await put(database, "a")
    run_id = await waiting(journal, ["b", "a"])
    assert await told(database, run_id) == [("a", 1)]
    assert (await now_of(database, run_id)).wake_at == NOW
    assert await documents.who_waits(database, key("a"), 5) == []
    assert await documents.who_waits(database, key("b"), 5) == [run_id]
    assert await put(database, "b") == [run_id]
    assert await told(database, run_id) == [("a", 1), ("b", 1)]
    assert await put(database, "b") == [], "who was told is not told again"


async def test_an_ended_run_is_not_told_and_leaves_no_wait(database: Database, journal: Journal) -> None:
    """Nothing grows for ever: its waits go with the next put, or with the run."""
    ended, other = await waiting(journal, ["a", "b"]), await waiting(journal, ["a"])
    async with database.unit() as unit:
        await signals.leave(unit, ended, TENANT, "cancel", "{}", NOW)
    assert await runs.claim(database, ended, "w1")
    end = replace(write(ended, 2, status="cancelled"), epoch=2, seen=1, ended_at=NOW, answered=[(1, "applied")])
    await journal.append(end)
    assert await documents.who_waits(database, key("b"), 5) == []
    assert await put(database, "a") == [other]
    async with database.unit() as unit:
        gone, _ = await emptying.empty_some(unit, [ended], NOW, 100)
    assert gone["document_waits"] == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES)),
        st.tuples(st.just("remove"), st.sampled_from(NAMES)),
        st.tuples(st.just("wait"), st.lists(st.sampled_from(NAMES), min_size=1, unique=True)),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_every_order_tells_each_wait_once(
    database: Database, journal: Journal, steps: list[tuple[str, object]]
) -> None:
    """R1: a run is told of a document that is there when it is written, else of the first version that comes."""
    story = new_id("story")
    versions, there = dict.fromkeys(NAMES, 0), set[str]()
    expected: dict[str, Told] = {}
    open_waits: dict[str, list[str]] = {name: [] for name in NAMES}
    for what, of in steps:
        if what == "wait":
            names = sorted(str(name) for name in of) if isinstance(of, list) else []
            run_id = await waiting(journal, names, story)
            expected[run_id] = [(name, versions[name]) for name in names if name in there]
            for name in names:
                if name not in there:
                    open_waits[name].append(run_id)
            continue
        name = str(of)
        if what == "remove":
            await remove(database, name, story)
            there.discard(name)
            continue
        versions[name] += 1
        there.add(name)
        assert await put(database, name, story) is not None
        for run_id in open_waits[name]:
            expected[run_id].append((name, versions[name]))
        open_waits[name].clear()
    assert {run_id: await told(database, run_id) for run_id in expected} == expected
    for name, run_ids in open_waits.items():
        assert sorted(await documents.who_waits(database, key(name, story), 50)) == sorted(run_ids)


async def test_puts_and_births_at_the_same_time_tell_each_wait_once(database: Database, journal: Journal) -> None:
    """R1: whichever comes first holds the document's row; the other one sees what it did."""
    for round_ in range(6):
        story = new_id("story")
        births = [waiting(journal, list(NAMES[number % 3 :]), story) for number in range(12)]
        puts = [put(database, name, story) for name in NAMES]
        mixed = [*births[:4], puts[0], *births[4:7], puts[1], *births[7:10], puts[2], *births[10:]]
        found = await asyncio.gather(*(mixed if round_ % 2 else reversed(mixed)))
        for run_id in [each for each in found if isinstance(each, str)]:
            said = await told(database, run_id)
            assert len({name for name, _ in said}) == len(said)
            assert {version for _, version in said} == {1}
        assert [await documents.who_waits(database, key(name, story), 50) for name in NAMES] == [[], [], []]
