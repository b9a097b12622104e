"""`flex audit` and `flex prune` as people and their scripts use them (H9, P6)."""

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from app.commands.auditing import verify_file
from contracts.access import LOCAL
from service.retention import Keep, Retention
from store import tables as t
from store.connect import Database
from tests.audit.chains import chained, change, do, opened
from tests.cli.conftest import FLEX, Flex, environment
from tests.durability.waiting import until
from tests.events.runs_in_log import Wall
from tests.retention.growing import FRAMES, Ground, Sown, grounds
from tests.routes.serving import Counting


def within(url: str, work: Callable[[Database], Awaitable[Any]]) -> Any:
    """Do something to the database while no command is running."""

    async def done() -> Any:
        async with opened(url) as database:
            return await work(database)

    return asyncio.run(done())


def on_ground(url: str, work: Callable[[Ground], Awaitable[Any]]) -> Any:
    async def done() -> Any:
        async with grounds(url) as ground:
            return await work(ground)

    return asyncio.run(done())


def test_verifying_says_that_it_holds_and_what_does_not(flex: Flex, database_url: str) -> None:
    """H9: every tenant's chain is verified; the first broken record is named, and the code is 1."""
    rows = within(database_url, lambda database: chained(database, "default", 3))
    within(database_url, lambda database: chained(database, "other", 2))
    fine = flex("audit", "verify")
    assert fine.code == 0
    assert "default" in fine.out
    assert rows[2].hash in fine.out
    within(database_url, lambda database: do(database, change(rows[1].record_id, actor="user:ben")))
    broken = flex("audit", "verify", "--json")
    assert broken.code == 1
    assert broken.json["ok"] is False
    assert broken.json["chains"]["default"]["broken"]["seq"] == 2
    assert broken.json["chains"]["other"]["ok"] is True


def test_a_break_in_words(flex: Flex, sqlite_url: str) -> None:
    """H9: people read which chain, what and where; what was verified before need not be read again."""
    rows = within(sqlite_url, lambda database: chained(database, "default", 3))
    within(sqlite_url, lambda database: do(database, change(rows[1].record_id, actor="user:ben")))
    broken = flex("audit", "verify")
    assert broken.code == 1
    assert "default: changed: Record 2 is not what was sealed." in broken.err
    assert flex("audit", "verify", "--tenant", "default", "--from-seq", "3").code == 0


def test_an_export_is_verified_elsewhere(flex: Flex, sqlite_url: str, tmp_path: Path) -> None:
    """H9: the file needs no database; a cut one is found by the hash that the export told."""
    rows = within(sqlite_url, lambda database: chained(database, "default", 4))
    exported = flex("audit", "export")
    assert exported.code == 0
    assert rows[3].hash in exported.err
    lines = exported.out.splitlines(keepends=True)
    assert [orjson.loads(line)["seq"] for line in lines] == [1, 2, 3, 4]
    file = tmp_path / "audit.jsonl"

    def verified(*kept: str, head: str | None = None, excerpt: bool = False) -> Any:
        file.write_text("".join(kept), encoding="utf-8")
        return verify_file(file, None, head, excerpt=excerpt)[str(file)]["broken"]

    assert verified(*lines, head=rows[3].hash) is None
    assert verified(*lines, head=(rows[1].hash or "").upper()) is None
    assert verified(*lines[:3]) is None
    assert verified(*lines[:3], head=rows[3].hash)["problem"] == "missing"
    assert verified(*lines[:1], *lines[2:])["message"] == "Record 2 is missing."
    assert verified(*lines[:1], *lines[2:], excerpt=True) is None
    file.write_text("".join(lines[:3]), encoding="utf-8")
    nowhere = {"FLEX_DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none"}
    cut = flex("audit", "verify", "--file", str(file), "--head", rows[3].hash or "", env=nowhere)
    assert cut.code == 1
    assert "cut short" in cut.err
    assert flex("audit", "export", "--tenant", "default", "--run", "run_1", "--format", "jsonl").out == exported.out
    assert flex("audit", "export", "--run", "run_2").out == ""


def test_a_reader_that_has_seen_enough(flex: Flex, sqlite_url: str, tmp_path: Path) -> None:
    """`flex audit export | head -1` ends without a complaint."""
    within(sqlite_url, lambda database: chained(database, "default", 600))
    command = " ".join(f"'{part}'" for part in [*FLEX, "audit", "export"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1"], env=environment(sqlite_url), cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    assert orjson.loads(done.stdout)["seq"] == 1
    assert done.stderr == ""


def test_a_noted_head_finds_a_chain_cut_short(flex: Flex, sqlite_url: str) -> None:
    """H9: a chain cut short with its head moved back holds; the hash that was noted is not in it."""
    within(sqlite_url, lambda database: chained(database, "default", 2))
    absent = flex("audit", "verify", "--head", "0" * 63 + "1")
    assert absent.code == 1
    assert "missing at 2" in absent.out


def test_pruning_says_what_goes(flex: Flex, sqlite_url: str) -> None:
    """P6: a dry run changes nothing and says what pruning then deletes."""
    now = Wall().now_ms()
    trees = [Sown(days=400, children=[Sown(days=400, now=now)], now=now), Sown(days=30, now=now), Sown(days=2, now=now)]
    on_ground(sqlite_url, lambda ground: ground.sow(*trees))
    dry = flex("prune", "--dry-run", "--json").json
    assert dry["rows"] == {
        "trees": 1, "runs": 2, "events": 2 * FRAMES, "nodes": 4, "signals": 2, "run_plans": 2, "envelopes": 2,
        "prompts": 2,
    }  # fmt: skip
    went = flex("prune")
    assert went.code == 0
    assert "went" in went.out
    assert on_ground(sqlite_url, lambda ground: ground.ids(t.runs)) == {trees[1].run_id, trees[2].run_id}
    assert flex("prune", "--tenant", "other", "--older-than", "10").err.strip() == "Nothing is old enough to go."
    assert flex("prune", "--older-than", "10", "--json").json["rows"]["runs"] == 1
    assert on_ground(sqlite_url, lambda ground: ground.ids(t.events)) == {trees[2].run_id}


def test_pruning_is_one_process_at_a_time(flex: Flex, sqlite_url: str) -> None:
    """P6: whoever comes second is told."""
    until = {"name": "prune", "holder": "somebody", "until": Wall().now_ms() + 60_000}
    on_ground(sqlite_url, lambda ground: ground.put((t.leases, until)))
    refused = flex("prune")
    assert refused.code == 1
    assert "Another process is pruning" in refused.err


def test_a_database_that_is_not_there_is_not_made(flex: Flex, tmp_path: Path) -> None:
    """Looking after a database never makes one, nor changes the schema of an old one."""
    missing = tmp_path / "mistyped.db"
    place = ("--database-url", f"sqlite+aiosqlite:///{missing}")
    ended = flex("audit", "verify", *place)
    assert ended.code == 2
    assert "There is no database" in ended.err
    assert not missing.exists()
    missing.touch()
    ended = flex("prune", *place)
    assert ended.code == 2
    assert "flex db upgrade" in ended.err


def test_killed_anywhere_pruning_is_taken_up_again(database_url: str, flex: Flex, tmp_path: Path) -> None:
    """P6: `kill -9` in the middle, several times: in the end exactly what should go is gone."""
    now, chance = Wall().now_ms(), random.Random(7)
    old = [Sown(days=366 + n % 9, children=[Sown(days=400, now=now)], now=now) for n in range(150)]
    young = [Sown(days=n, now=now) for n in range(5)]
    on_ground(database_url, lambda ground: ground.sow(*old, *young))
    on_ground(database_url, kept_for_a_year)
    for _ in range(2):
        process = subprocess.Popen(
            [*FLEX, "prune"], env=environment(database_url), cwd=tmp_path, stdout=subprocess.DEVNULL
        )
        wait_for_some(database_url, process, chance)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        on_ground(database_url, give_up_lease)
    assert flex("prune").code == 0
    counts = on_ground(database_url, lambda ground: ground.counts())
    assert (counts["runs"], counts["tombstones"], counts["events"], counts["prompts"]) == (5, 300, 5 * FRAMES, 5)


async def kept_for_a_year(ground: Ground) -> None:
    policy = {"runs_days": 365, "audit_days": None}
    await Retention(ground.database, ground.clock, Counting(), Keep(None, None)).write(LOCAL, policy)


async def give_up_lease(ground: Ground) -> None:
    await do(ground.database, sa.delete(t.leases))


def wait_for_some(url: str, process: "subprocess.Popen[bytes]", chance: random.Random) -> None:
    """Wait until the process has begun to delete, and a little longer."""

    async def looked() -> None:
        async with grounds(url) as ground:
            before = (await ground.counts())["events"]

            async def begun() -> bool:
                return process.poll() is not None or not await ground.has("events", before)

            await until(begun, 30, "it has begun to delete")
            await asyncio.sleep(chance.random() / 50)

    asyncio.run(looked())
