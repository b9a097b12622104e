"""Runs that leave something behind or need something first: shared memory, documents that come late, turns of chats."""

from typing import Any

from tests.chaos.draft import Draft, Paper
from tests.durability.plans import Json

NEIGHBOURS = 15
"""So many runs that come one after the other share a scope of memory: those of them that write it meet there."""
COUNTER = "count"
"""The key that everybody adds one to, by compare-and-set."""
MS = (0, 0, 20, 80, 250)
DELAYS = (0.0, 0.0, 0.02, 0.1, 0.4, 1.0, 2.0)
"""When a document comes: before the run, while it is accepted, or while the fault strikes."""


def remember(draft: Draft) -> None:
    """Write memory that others write at the same time: counters by compare-and-set, and keys of one's own."""
    chance = draft.chance
    common, _, number = draft.key.rpartition("-")
    draft.scopes = [f"shared:{common}-{int(number) // NEIGHBOURS}"]
    last = draft.chain(chance.randint(0, 1))
    if chance.random() < 0.5:
        # At once and equally long, so that a run meets itself between the look and the commit.
        ms = chance.choice(MS)
        last = [_write(draft, last, "counts", ms) for _ in range(chance.randint(2, 3))]
    else:
        for _ in range(chance.randint(1, 3)):
            last = [_write(draft, last, chance.choice(("counts", "counts", "remembers", "set")), chance.choice(MS))]
    draft.chain(1, last)


def _write(draft: Draft, after: list[str], what: str, ms: int) -> str:
    (scope,) = draft.scopes
    name = f"m{len(draft.nodes)}"
    own = f"{draft.key.rpartition('-')[2]}.{name}"
    if what == "set":
        node: Json = {"node_id": name, "kind": "memory", "op": "set", "scope": scope, "key": own}
        given: dict[str, Any] = {"value": 1}
    else:
        node = {"node_id": name, "kind": "call", "capability_id": f"step.{what}"}
        given = {"scope": scope, "key": COUNTER if what == "counts" else own, "ms": ms}
    node["inputs"] = {key: {"value": value} for key, value in given.items()}
    draft.writes.append(name)
    return draft.add(node, after)


def papers(draft: Draft) -> None:
    """Need documents that come at any moment; another story has one of the same name, which is none of them."""
    for number in range(draft.chance.randint(1, 2)):
        draft.papers.append(_paper(draft, draft.key, f"doc{number}"))
    draft.papers.append(_paper(draft, f"{draft.key}-other", "doc0"))
    draft.chain(draft.chance.randint(1, 2))


def _paper(draft: Draft, story_id: str, document_id: str) -> Paper:
    return Paper(story_id, document_id, draft.chance.choice(DELAYS), draft.chance.randrange(2))


def talk(draft: Draft) -> None:
    """Say something in a conversation, twice at once under one key; the model has a tool called before it answers."""
    draft.talks = True


def context(draft: Draft) -> Json:
    """What the envelope says of memory and documents; nothing where there is neither."""
    said: Json = {"memory": draft.scopes} if draft.scopes else {}
    needed = [paper.document_id for paper in draft.papers if paper.story_id == draft.key]
    if needed:
        said |= {"story_id": draft.key, "documents": needed}
    return {"context": said} if said else {}
