"""What is asked of the service: a seeded mix of runs, and what people and viewers will do with each."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.draft import Draft, Paper, Say
from tests.chaos.kept import context, papers, remember, talk
from tests.durability.plans import Json, call, envelope

RETRY = {"max_attempts": 3, "base_ms": 20, "max_ms": 200}
CONTENDED = {"max_attempts": 20, "base_ms": 20, "max_ms": 200}
"""for runs that write what others write: an attempt that came second is one that failed"""
LATE_SHARE = 0.25


@dataclass(frozen=True)
class Glance:
    """One viewer: which service it begins with, and after how many frames it leaves and comes back elsewhere."""

    first: int
    delay: float
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """One run to be: its envelope, and everything that will be done to it."""

    key: str
    shape: str
    envelope: Json
    says: Mapping[str, Say] = field(default_factory=dict)
    """node that asks → what people do"""
    cancel_after: int | None = None
    """frames after which somebody cancels"""
    pause_after: int | None = None
    """frames after which somebody pauses it, to resume it when it stands still"""
    called: tuple[str, ...] = ()
    """nodes that the outside world answers, twice at once and differently"""
    writes: tuple[str, ...] = ()
    """nodes that each write one key of memory"""
    papers: tuple[Paper, ...] = ()
    """documents that come, and when"""
    talks: bool = False
    """a turn of a conversation in place of an envelope"""
    streamed: bool = True
    """begun by ``run.stream``, else by ``POST /api/v1/runs``"""
    glances: tuple[Glance, ...] = ()
    late: bool = False
    """read once more after the end"""

    @property
    def stays_open(self) -> bool:
        """Whether a question of it is never answered (and nobody cancels it)."""
        return "leave" in self.says.values() and self.cancel_after is None


def _chain(draft: Draft) -> None:
    draft.chain(draft.chance.randint(2, 5))


def _slow(draft: Draft) -> None:
    """Under way for seconds: whatever strikes finds it so."""
    last: list[str] = []
    for _ in range(draft.chance.randint(3, 4)):
        last = [draft.step(last, ms=draft.chance.choice((300, 600, 900)))]


def _fan(draft: Draft) -> None:
    root = draft.step()
    arms = [draft.step([root]) for _ in range(draft.chance.randint(2, 5))]
    draft.step([draft.add({"node_id": "meet", "kind": "join", "wait": "all"}, arms)])


def _map(draft: Draft) -> None:
    items = list(range(draft.chance.randint(1, 6)))
    node = {"node_id": "m", "kind": "map", "over": {"value": items}, "node": _inner(draft), "concurrency": 3}
    draft.step([draft.add(node, [draft.step()])])


def _inner(draft: Draft) -> Json:
    """What runs per item, or per round."""
    inner = call("item", draft.chance.choice(("none", "idempotent")))
    del inner["node_id"]
    inner["inputs"] = {"ms": {"value": draft.chance.choice((0, 5, 20, 80))}}
    return inner


def _retry(draft: Draft) -> None:
    first = draft.step()
    again = draft.step([first], effects=draft.chance.choice(("none", "idempotent")), fails=draft.chance.randint(1, 2))
    draft.step([again])


def _approval(draft: Draft) -> None:
    say: Say = draft.chance.choice(("approve", "approve", "reject", "race", "race", "timer"))
    draft.chain(draft.chance.randint(1, 2), [draft.question(draft.chain(1), say)])


def _questions(draft: Draft) -> None:
    """Several questions at once, answered in any order while a branch beside them goes on (H6)."""
    root = draft.step()
    asked = [draft.question([root], draft.chance.choice(("approve", "race", "timer"))) for _ in range(2)]
    draft.step([*asked, *draft.chain(2, [root])])


def _delay(draft: Draft) -> None:
    seconds = draft.chance.choice((0.05, 0.3, 1.2))
    draft.step([draft.add({"node_id": "later", "kind": "delay", "seconds": seconds}, draft.chain(1))])


def _callback(draft: Draft) -> None:
    draft.called.append("outside")
    draft.step([draft.add({"node_id": "outside", "kind": "wait", "timeout_seconds": 3_600}, draft.chain(1))])


def _loop(draft: Draft) -> None:
    until = f"nodes.again.iteration >= {draft.chance.randint(1, 4)}"
    node = {"node_id": "again", "kind": "loop", "node": _inner(draft), "until": until, "max_iterations": 5}
    draft.step([draft.add(node, draft.chain(1))])


def _child(draft: Draft) -> None:
    """A plan inside the plan, or several at once: each is a run of its own, in any process."""
    inside = Draft(draft.chance)
    inside.chain(draft.chance.randint(1, 3))
    plan = envelope(inside.nodes, inside.edges)["workflow"]["plan"]
    node = {"kind": "subflow", "plan": plan}
    if draft.chance.random() < 0.5:
        node = {"kind": "map", "over": {"value": [1, 2, 3]}, "node": node, "concurrency": 2}
    draft.step([draft.add({"node_id": "inside", **node}, draft.chain(1))])


def _unanswered(draft: Draft) -> None:
    draft.step([draft.question(draft.chain(1), "leave")])


SHAPES = (
    (_chain, 6), (_slow, 4), (_fan, 4), (_map, 3), (_retry, 3), (_approval, 4), (_questions, 2), (_unanswered, 1),
    (_delay, 2), (_callback, 2), (_loop, 2), (_child, 3), (remember, 4), (papers, 3), (talk, 2),
)  # fmt: skip
DRAWN = [shape for shape, weight in SHAPES for _ in range(weight)]


def mix(count: int, chance: random.Random, prefix: str) -> list[Spec]:
    """Return that many runs; the same seed gives the same ones."""
    return [_spec(chance, f"{prefix}-{number}") for number in range(count)]


def _spec(chance: random.Random, key: str) -> Spec:
    shape = chance.choice(DRAWN)
    draft = Draft(chance, key)
    shape(draft)
    whole = {} if draft.talks else _envelope(draft)
    return Spec(
        key,
        shape.__name__.strip("_"),
        whole,
        draft.says,
        # Early enough that a run which waits for nobody's answer is cancelled too.
        chance.randint(2, 6) if chance.random() < 0.1 else None,
        chance.randint(2, 6) if chance.random() < 0.1 else None,
        tuple(draft.called),
        tuple(draft.writes),
        tuple(draft.papers),
        draft.talks,
        chance.random() < 0.6,
        tuple(_glance(chance, at) for at in range(chance.choice((1, 1, 2, 3)))),
        chance.random() < LATE_SHARE,
    )


def _envelope(draft: Draft) -> Json:
    retry = CONTENDED if draft.writes else RETRY
    whole = envelope(draft.nodes, draft.edges, retry=retry, timeouts={"run_seconds": 3_600})
    return {**whole, "correlation_id": draft.key, **context(draft)}


def _glance(chance: random.Random, at: int) -> Glance:
    leaves = tuple(chance.randint(1, 6) for _ in range(chance.randint(0, 3)))
    return Glance(chance.randrange(2), chance.random() * 0.3 if at else 0.0, leaves)
