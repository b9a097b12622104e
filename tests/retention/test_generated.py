"""Random trees, ages, states and policies, pruned by processes that die anywhere: what goes and what stays (P6)."""

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.pruning import DAY_MS, Asked, Tally
from service.retention import Keep
from store import tables as t
from store.statement import Statement
from tests.retention.growing import TERMINAL, Ground, Sown, grounds
from tests.store.making import new_id

EFFORT = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
YEAR = Keep(365, None)
AGES = st.sampled_from([0, 1, 29, 30, 31, 364, 365, 366, 400])
STATES = st.sampled_from([*TERMINAL, *TERMINAL, "running", "waiting", "queued", "planning"])
LEAF = st.builds(Sown, days=AGES, status=STATES)
TREE = st.recursive(
    LEAF,
    lambda below: st.builds(Sown, days=AGES, status=STATES, children=st.lists(below, min_size=1, max_size=3)),
    max_leaves=6,
)
ACT: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("sow"), st.lists(TREE, min_size=1, max_size=4)),
    st.tuples(st.just("days"), st.sampled_from([1, 30, 335, 366])),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(st.just("fork"), st.integers(0, 20)),
    st.tuples(st.just("keep"), st.sampled_from([Keep(365, None), Keep(30, None), Keep(None, None)])),
    st.tuples(st.just("dies"), st.integers(1, 6)),
    st.tuples(st.just("prune"), st.none()),
)


@dataclass
class World:
    """What should be there, kept beside the real thing."""

    ground: Ground
    keep: Keep = YEAR
    trees: list[Sown] = field(default_factory=list)
    ended: dict[str, int | None] = field(default_factory=dict)

    def may_go(self) -> list[Sown]:
        """Trees of which every run ended before the limit."""
        if self.keep.runs_days is None:
            return []
        limit = self.ground.clock.ms - self.keep.runs_days * DAY_MS
        return [
            tree
            for tree in self.trees
            if all((ended := self.ended[each.run_id]) is not None and ended < limit for each in tree.all())
        ]

    async def act(self, what: str, how: Any) -> None:
        """Do one thing."""
        match what:
            case "sow":
                for tree in how:
                    await self._sow(tree)
            case "fork":
                if self.trees:
                    origin = self.trees[how % len(self.trees)].run_id
                    await self._sow(Sown(days=how, origin=origin))
            case "days":
                self.ground.clock.ms += how * DAY_MS
            case "end":
                await self._end(how)
            case "keep":
                self.keep = how
            case "dies":
                await self._prune(how)
            case _:
                await self._prune(None)

    async def _sow(self, tree: Sown) -> None:
        planted = _fresh(tree, self.ground.clock.ms)
        await self.ground.sow(planted)
        self.trees.append(planted)
        self.ended.update({each.run_id: each.ended_at for each in planted.all()})

    async def _end(self, which: int) -> None:
        """A run that lives ends now."""
        live = sorted(run_id for run_id, ended in self.ended.items() if ended is None)
        if not live:
            return
        run_id, now = live[which % len(live)], self.ground.clock.ms
        end = sa.update(t.runs).where(t.runs.c.run_id == run_id)
        async with self.ground.database.unit() as unit:
            await unit.execute(Statement(end.values(status="completed", ended_at=now, worker=None, wake_at=None)))
        self.ended[run_id] = now

    async def _prune(self, steps: int | None) -> None:
        """Prune to the end, or die after so many transactions."""
        going = self.may_go()
        stay = [each.run_id for tree in self.trees if tree not in going for each in tree.all()]
        before = await self.ground.everything(stay)
        done = Tally()
        work = self.ground.pruner(self.keep).steps(Asked(), done)
        async for _ in first_of(work, steps):
            await self._half_way(going)
        await work.aclose()
        assert await self.ground.everything(stay) == before
        there = await self.ground.ids(t.runs)
        gone = [tree for tree in going if tree.run_id not in there]
        assert steps is not None or gone == going
        self.trees = [tree for tree in self.trees if tree not in gone]
        for tree in gone:
            for each in tree.all():
                del self.ended[each.run_id]
        await self.check(whole=steps is None)

    async def _half_way(self, going: list[Sown]) -> None:
        """Each run is there with all it has, or has a tombstone and cannot be read any more."""
        there, stones = await self.ground.ids(t.runs), await self.ground.ids(t.tombstones)
        assert not there & stones
        for tree in going:
            assert all((each.run_id in there) != (each.run_id in stones) for each in tree.all())

    async def check(self, *, whole: bool) -> None:
        """Everything that should be there is; of what went nothing is left but tombstones, once it is ``whole``."""
        there = await self.ground.ids(t.runs)
        assert there == {each.run_id for tree in self.trees for each in tree.all()} == set(self.ended)
        for table in (t.events, t.nodes, t.prompts, t.decisions, t.signals, t.envelopes, t.run_plans, t.notifications):
            found = await self.ground.ids(table)
            assert found == there if whole else found >= there


async def first_of(work: Any, steps: int | None) -> Any:
    """Yield the first ``steps`` of an asynchronous iterator, all without a number."""
    counter = itertools.count(1)
    async for each in work:
        yield each
        if steps is not None and next(counter) >= steps:
            return


def _fresh(tree: Sown, now: int) -> Sown:
    """The tree with names of its own: an example may be tried again."""
    return replace(tree, run_id=new_id(), now=now, children=[_fresh(child, now) for child in tree.children])


@EFFORT
@given(acts=st.lists(ACT, min_size=3, max_size=12))
def test_what_goes_and_what_stays(database_url: str, acts: list[tuple[str, Any]]) -> None:
    """P6: a tree goes when all of it ended before the limit; a live run is never touched, whoever dies when."""

    async def example() -> None:
        async with grounds(database_url) as ground:
            world = World(ground)
            try:
                for what, how in [*acts, ("prune", None)]:
                    await world.act(what, how)
            finally:
                async with ground.database.unit() as unit:
                    for table in t.metadata.sorted_tables:
                        await unit.execute(Statement(sa.delete(table)))

    asyncio.run(example())
