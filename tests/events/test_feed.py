"""The feed gives every viewer the log: in order, without a gap, whatever was published when (F9)."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.events import Frame, NodeDelta, encode
from events.feed import Feed
from events.watch import Limits, Watch
from tests.events.runs_in_log import AT, LoggedRun, open_log, until


async def read(feed: Feed, run: LoggedRun, after: int = 0) -> list[Frame]:
    return [frame async for frame in feed.follow(run.tenant, run.run_id, after)]


@pytest.fixture
async def logged(database_url: str) -> AsyncIterator[tuple[Feed, LoggedRun]]:
    async with open_log(database_url) as (database, journal):
        feed = Feed(database, limits=Limits(frames=4, bytes=4_000, page=3), tick_seconds=60)
        yield feed, LoggedRun(journal)
        feed.close()


def delta(run: LoggedRun, text: str) -> Frame:
    event = NodeDelta(1, 0, text)
    data = encode(event, seq=None, at_ms=AT, run_id=run.run_id, correlation_id="cid-01", node_id="n")
    return Frame(None, event.type, data)


async def test_a_late_viewer_reads_the_whole_log(logged: tuple[Feed, LoggedRun]) -> None:
    """F9: replay from the log alone, over several pages, also from the middle."""
    feed, run = logged
    await run.born()
    for text in "abcdefg":
        await run.log(text)
    await run.end()
    assert await read(feed, run) == run.frames
    assert await read(feed, run, after=5) == run.frames[5:]
    assert feed.viewers == 0


async def test_live_frames_follow_the_log(logged: tuple[Feed, LoggedRun]) -> None:
    """F9: what is in the log, then what is published, then the end."""
    feed, run = logged
    await run.born()
    watch = feed.watch(run.tenant, run.run_id, 0)
    assert await watch.batch() == run.frames[:1]
    waiting = asyncio.ensure_future(watch.batch())
    await asyncio.sleep(0)
    await until(lambda: watch.live)
    published = await run.log("live")
    feed.publish(run.run_id, published)
    got = await waiting
    assert got[0] is published[0]
    feed.publish(run.run_id, await run.end())
    assert [frame.type for frame in await watch.batch()] == ["complete"]
    assert watch.over
    assert await watch.batch() == []
    watch.close()


async def test_a_gap_or_a_full_buffer_sends_the_viewer_to_the_log(logged: tuple[Feed, LoggedRun]) -> None:
    """F9: a frame whose predecessor was lost, and more frames than are held, come from the log in order."""
    feed, run = logged
    await run.born()
    watch = feed.watch(run.tenant, run.run_id, 0)
    got = await watch.batch()
    waiting = asyncio.ensure_future(watch.batch())
    await until(lambda: watch.live)
    await run.log("never published")
    feed.publish(run.run_id, await run.log("published"))
    got += await waiting
    assert [frame.seq for frame in got] == [1, 2, 3]
    waiting = asyncio.ensure_future(watch.batch())
    await until(lambda: watch.live)
    for number in range(9):
        feed.publish(run.run_id, await run.log(f"{number}"))
    assert not watch.live
    got += await waiting
    while got[-1].seq != 12:
        got += await watch.batch()
    assert got == run.frames
    watch.close()


async def test_ephemeral_frames_reach_only_viewers_that_are_up_to_date(logged: tuple[Feed, LoggedRun]) -> None:
    """Wire §4: node_delta is live only, between the frames it was published between, and never replayed."""
    feed, run = logged
    feed.publish(run.run_id, await run.born())
    early, late = feed.watch(run.tenant, run.run_id, 0), feed.watch(run.tenant, run.run_id, 0)
    await early.batch()
    waiting = asyncio.ensure_future(early.batch())
    await until(lambda: early.live)
    feed.publish_ephemeral(run.run_id, delta(run, "now"))
    feed.publish(run.run_id, await run.end())
    got = await waiting
    if len(got) == 1:
        got += await early.batch()
    assert [frame.type for frame in got] == ["node_delta", "complete"]
    types = [frame.type for frame in await late.batch()]
    while not late.over:
        types += [frame.type for frame in await late.batch()]
    assert types == ["start", "complete"]
    early.close()
    late.close()


async def test_a_lost_nudge_is_found_by_the_tick(logged: tuple[Feed, LoggedRun]) -> None:
    """F9: another process writes and its nudge is lost; one look at the heads of all watched runs finds it."""
    feed, run = logged
    await run.born()
    reading = asyncio.ensure_future(read(feed, run))
    await until(lambda: feed.viewers > 0)
    for text in "abcdefghij":
        await run.log(text)
    await run.end()
    while not reading.done():
        await feed.tick()
        await asyncio.sleep(0.001)
    assert reading.result() == run.frames


async def test_one_read_serves_all_viewers_of_a_remote_run(logged: tuple[Feed, LoggedRun]) -> None:
    """F9: after a nudge the log is read once, and viewers share the very same bytes."""
    feed, run = logged
    await run.born()
    watches = [feed.watch(run.tenant, run.run_id, 0) for _ in range(5)]
    for watch in watches:
        await watch.batch()
    waiting = [asyncio.ensure_future(watch.batch()) for watch in watches]
    await until(lambda: all(watch.live for watch in watches))
    await run.log("elsewhere")
    feed.announced(run.run_id, 2)
    got = [frames[0] for frames in await asyncio.gather(*waiting)]
    assert all(frame is got[0] for frame in got)
    assert got[0] == run.frames[1]
    for watch in watches:
        watch.close()


async def test_a_word_that_is_wrong_does_no_harm(logged: tuple[Feed, LoggedRun]) -> None:
    """F9: nudges are hints: one that names a frame that does not exist is read for once and forgotten."""
    feed, run = logged
    await run.born()
    reading = asyncio.ensure_future(read(feed, run))
    await until(lambda: feed.viewers > 0)
    feed.announced(run.run_id, 1_000)
    feed.announced("run_unknown", 5)
    await feed.tick()
    feed.publish(run.run_id, await run.end())
    while not reading.done():
        await feed.tick()
        await asyncio.sleep(0.001)
    assert reading.result() == run.frames


async def test_closing_ends_viewers_without_a_terminal_frame(logged: tuple[Feed, LoggedRun]) -> None:
    """P5: a drain lets every viewer end; nobody waits for a run that may take days."""
    feed, run = logged
    await run.born()
    reading = asyncio.ensure_future(read(feed, run))
    await until(lambda: feed.viewers > 0)
    feed.close()
    frames = await asyncio.wait_for(reading, 5)
    assert frames == run.frames[: len(frames)]
    assert feed.viewers == 0
    assert await read(feed, run) == []


async def test_another_tenants_run_gives_nothing(logged: tuple[Feed, LoggedRun]) -> None:
    """P2: even asked with the right id, the log of another tenant is empty."""
    feed, run = logged
    await run.born()
    await run.end()
    watch = feed.watch("other", run.run_id, 0)
    waiting = asyncio.ensure_future(watch.batch())
    await until(lambda: watch.live)
    watch.stop()
    assert await waiting == []
    watch.close()


STEPS = (
    "commit", "commit", "publish", "publish", "lose", "read", "settle", "settle",
    "publish_twice", "gap", "announce", "tick", "late", "delta", "turn",
)  # fmt: skip


class Interleaving:
    """A run, its feed and several viewers, moved step by step."""

    def __init__(self, feed: Feed, run: LoggedRun, born: list[Frame]) -> None:
        self.feed, self.run = feed, run
        self.unpublished = [born]
        self.watches: list[Watch] = []
        self.got: list[list[Frame]] = []
        self.readers: dict[int, asyncio.Future[list[Frame]]] = {}

    async def step(self, name: str) -> None:
        if self.unpublished or name not in ("publish", "publish_twice", "lose"):
            await getattr(self, name)()

    async def commit(self) -> None:
        self.unpublished.append(await self.run.log("x" * 300))

    async def publish(self) -> None:
        self.feed.publish(self.run.run_id, self.unpublished.pop(0))

    async def publish_twice(self) -> None:
        self.feed.publish(self.run.run_id, self.unpublished[-1])
        await self.publish()

    async def lose(self) -> None:
        self.unpublished.pop(0)

    async def gap(self) -> None:
        """The newest frame is published, the one before it never was."""
        self.unpublished.clear()
        await self.commit()
        await self.lose()
        await self.commit()
        await self.publish()

    async def announce(self) -> None:
        self.feed.announced(self.run.run_id, self.run.seq)

    async def tick(self) -> None:
        await self.feed.tick()

    async def delta(self) -> None:
        self.feed.publish_ephemeral(self.run.run_id, delta(self.run, "d"))

    async def late(self) -> None:
        self.watches.append(self.feed.watch(self.run.tenant, self.run.run_id, 0))
        self.got.append([])

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def read(self) -> None:
        for place, reader in list(self.readers.items()):
            if reader.done():
                self.got[place] += reader.result()
                del self.readers[place]
        for place, watch in enumerate(self.watches):
            if place not in self.readers and not watch.over:
                self.readers[place] = asyncio.ensure_future(watch.batch())
        await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let every waiting viewer either get something or come up to date."""
        await self.read()
        await until(lambda: all(task.done() or self.watches[place].live for place, task in self.readers.items()))

    async def finish(self) -> None:
        await self.run.end()
        while self.readers or not all(watch.over for watch in self.watches):
            await self.feed.tick()
            await self.read()
            await asyncio.sleep(0.0005)


@given(steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=60))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_interleaving_gives_every_viewer_the_same_frames(sqlite_url: str, steps: list[str]) -> None:
    """F9: publications lost, doubled, late or out of turn, buffers overflowing: each viewer gets the log, once."""
    async with open_log(sqlite_url) as (database, journal):
        feed = Feed(database, limits=Limits(frames=3, bytes=1_500, page=2), tick_seconds=60)
        run = LoggedRun(journal)
        world = Interleaving(feed, run, await run.born())
        await world.late()
        for name in steps:
            await world.step(name)
        await world.finish()
        feed.close()
        for frames in world.got:
            assert [frame.data for frame in frames if frame.seq is not None] == [frame.data for frame in run.frames]
