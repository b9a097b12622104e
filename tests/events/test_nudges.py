"""Nudges: at once inside a process, by LISTEN/NOTIFY between processes, and never more than a hint (design §5)."""

import asyncio
from collections.abc import Callable

import orjson
from hypothesis import given
from hypothesis import strategies as st

from events.local import LocalNudge
from events.postgres import PostgresNudge, batches
from store.notify import PAYLOAD_BYTES, Notifier
from tests.events.runs_in_log import until


class Heard:
    """What a process was told."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str | None]] = []
        self.events: list[tuple[str, int]] = []

    def run(self, run_id: str, worker: str | None) -> None:
        self.runs.append((run_id, worker))

    def log(self, run_id: str, seq: int) -> None:
        self.events.append((run_id, seq))


async def joined(url: str, name: str) -> tuple[PostgresNudge, Heard]:
    nudge, heard = PostgresNudge(url, name, pace_seconds=0.001), Heard()
    nudge.attach(heard.run, heard.log)
    await nudge.start()
    return nudge, heard


def test_inside_one_process_the_call_is_direct() -> None:
    """Design §5: the embedded topology has no broker; nobody attached means nobody is told."""
    nudge, heard = LocalNudge(), Heard()
    nudge.run("run_0", None)
    nudge.attach(heard.run, heard.log)
    nudge.run("run_1", "wrk_1")
    nudge.events("run_1", 3)
    assert heard.runs == [("run_1", "wrk_1")]
    assert heard.events == []


async def test_processes_hear_of_each_other(postgres_url: str) -> None:
    """Design §5: signals reach everybody, events everybody else, many of one run as the newest only."""
    one, at_one = await joined(postgres_url, "wrk_1")
    two, at_two = await joined(postgres_url, "wrk_2")
    one.run("run_1", None)
    assert at_one.runs == [("run_1", None)]
    for seq in range(1, 400):
        one.events("run_1", seq)
    one.events("run_2", 7)
    await until(lambda: at_two.runs == [("run_1", None)] and len(at_two.events) == 2)
    assert at_two.events == [("run_1", 399), ("run_2", 7)]
    assert at_one.events == []
    await one.close()
    await two.close()


async def test_a_large_batch_is_cut_into_payloads(postgres_url: str) -> None:
    """PostgreSQL refuses 8,000 bytes: hundreds of runs arrive all the same, in several notifications."""
    one, _ = await joined(postgres_url, "wrk_1")
    two, at_two = await joined(postgres_url, "wrk_2")
    wanted = [(f"run_{number:026}", number) for number in range(1, 700)]
    for run_id, seq in wanted:
        one.events(run_id, seq)
    await until(lambda: len(at_two.events) == len(wanted))
    assert at_two.events == wanted
    await one.close()
    await two.close()


async def test_a_lost_connection_comes_back(postgres_url: str) -> None:
    """Design §4: the listener connects again by itself; what was sent meanwhile is lost, what comes later is not."""
    one, _ = await joined(postgres_url, "wrk_1")
    two, at_two = await joined(postgres_url, "wrk_2")
    await two._notifier._connection.execute(  # type: ignore[union-attr]  # the one way to cut it from inside
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )

    def told() -> bool:
        one.run("run_after", None)
        return ("run_after", None) in at_two.runs

    await until(told)
    await one.close()
    await two.close()


async def test_what_cannot_be_read_is_dropped(postgres_url: str) -> None:
    """Design §4: a notification is a hint from anybody; nonsense harms nobody."""
    two, at_two = await joined(postgres_url, "wrk_2")
    stranger = Notifier(postgres_url, (), lambda _channel, _payload: None)
    await stranger.start()
    for payload in ("", "nonsense", "[]", '["wrk_9",[1,2]]', '["wrk_9",[["run_1","x"]]]', '["wrk_9",[["run_1",4]]]'):
        assert await stranger.send("flex_events", payload)
    await until(lambda: at_two.events == [("run_1", 4)])
    await stranger.close()
    assert not await stranger.send("flex_events", "[]")
    await two.close()


@given(st.lists(st.tuples(st.text(max_size=200), st.integers(0, 2**53)), max_size=200), st.text(max_size=40))
def test_payloads_are_small_and_complete(items: list[tuple[str, int]], sender: str) -> None:
    """Every item arrives once, in order, in payloads under PostgreSQL's limit."""
    payloads = list(batches(sender, items))
    assert all(len(payload.encode()) < PAYLOAD_BYTES for payload in payloads)
    read = [orjson.loads(payload) for payload in payloads]
    assert all(name == sender for name, _ in read)
    assert [tuple(item) for _, part in read for item in part] == items


def test_nothing_is_sent_before_it_is_started() -> None:
    """A nudge may be made before there is a loop: nothing is sent before it is started."""
    made: Callable[[str, str], PostgresNudge] = PostgresNudge
    nudge = made("postgresql+asyncpg://localhost/none", "wrk_1")
    nudge.run("run_1", None)
    nudge.events("run_1", 1)
    asyncio.run(nudge.close())
