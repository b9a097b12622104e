"""A plan while it is drawn: nodes, edges, and what people and the world around it will do to them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.durability.plans import Json, ask, call

Say = Literal["approve", "reject", "race", "leave", "timer"]
"""What happens to a question: answered, answered differently by two at once, never answered, left to its due time."""
EFFECTS = ("none", "none", "idempotent", "idempotent", "once")
TIMER_SECONDS = 0.4


@dataclass(frozen=True)
class Paper:
    """A document that somebody puts so many seconds after the run was sent for, at one service or the other."""

    story_id: str
    document_id: str
    delay: float
    first: int


class Draft:
    """Nodes and edges of a plan while it is drawn."""

    def __init__(self, chance: random.Random, key: str = "") -> None:
        self.chance = chance
        self.key = key
        """names the run; what stands before its last dash is common to all runs of a scenario"""
        self.nodes: list[Json] = []
        self.edges: list[tuple[str, str]] = []
        self.says: dict[str, Say] = {}
        self.called: list[str] = []
        self.scopes: list[str] = []
        """memory that the run may touch"""
        self.writes: list[str] = []
        """nodes that each write one key"""
        self.papers: list[Paper] = []
        """documents that come, those that the run needs first of all in its own story"""
        self.talks = False
        """whether it is a turn of a conversation: the model says what is done, there is no plan to draw"""

    def step(self, after: Sequence[str] = (), *, effects: str | None = None, **inputs: Any) -> str:
        """Add a call that comes after these nodes; return its id."""
        name = f"n{len(self.nodes)}"
        given = {"ms": self.chance.choice((0, 0, 5, 20, 80, 250)), **inputs}
        node = call(name, effects or self.chance.choice(EFFECTS))
        node["inputs"] = {key: {"value": value} for key, value in given.items()}
        return self.add(node, after)

    def question(self, after: Sequence[str], say: Say) -> str:
        """Add a question that people deal with like this."""
        node = ask(f"q{len(self.nodes)}")
        if say == "timer":
            node["prompt"] |= {"due_seconds": TIMER_SECONDS, "on_timeout": "approve"}
        self.says[node["node_id"]] = say
        return self.add(node, after)

    def add(self, node: Json, after: Sequence[str]) -> str:
        self.nodes.append(node)
        self.edges += [(before, node["node_id"]) for before in after]
        return str(node["node_id"])

    def chain(self, length: int, after: Sequence[str] = ()) -> list[str]:
        """Add steps one after the other; return the last one's id in a list."""
        last = list(after)
        for _ in range(length):
            last = [self.step(last)]
        return last
