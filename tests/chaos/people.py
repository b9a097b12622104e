"""Operators: they answer what they are asked, in random order, sometimes two of them at once with different answers."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.draft import TIMER_SECONDS, Say
from tests.chaos.wire import Answer, Broken, request

AGAIN_SECONDS = 0.2
PATIENCE_SECONDS = 4.0
LOOK_SECONDS = 1.0


class Ledger:
    """The file in which capabilities note their calls, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._begun: set[tuple[str, str]] = set()

    def has_begun(self, run_id: str, node_id: str) -> bool:
        """Say whether a call of the node was ever begun."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                for line in file.read().split(b"\n")[:-1]:
                    self._at += len(line) + 1
                    effect = json.loads(line)
                    self._begun.add((effect["run_id"], effect["node_id"]))
        return (run_id, node_id) in self._begun


@dataclass(frozen=True)
class Response:
    """What somebody said, and the service's last word on it."""

    prompt_id: str
    action: str
    status: int
    body: Mapping[str, Any] = field(default_factory=dict)


async def insist(bases: Sequence[str], first: int, method: str, path: str, **more: Any) -> Answer:
    """Ask one service after the other until one gives an answer that is not about its own troubles."""
    turn = first
    while True:
        try:
            answer = await request(bases[turn % len(bases)], method, path, patience=PATIENCE_SECONDS, **more)
            if answer.status < 500:
                return answer
        except Broken:
            pass  # it is down, stopped or cut off: that is what the harness is for
        turn += 1
        await asyncio.sleep(AGAIN_SECONDS)


@dataclass(frozen=True)
class Asked:
    """A question on the pile."""

    prompt: Mapping[str, Any]
    say: Say | None


@dataclass(frozen=True)
class Called:
    """What the outside world said to a node that waits for it, and what it was told."""

    run_id: str
    node_id: str
    output: Mapping[str, Any]
    status: int


class Operators:
    """Two people with one pile; both take from anywhere in it."""

    def __init__(self, bases: Sequence[str], chance: random.Random, ledger: Ledger) -> None:
        self.responses: list[Response] = []
        self._bases, self._chance, self._ledger = bases, chance, ledger
        self._pile: list[Asked] = []
        self._known: set[str] = set()
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to work."""
        for _ in range(2):
            self._spawn(self._work())
        self._spawn(self._look())

    async def stop(self) -> None:
        """Go home; whatever is said at this moment is said to its end by nobody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self, prompt: Mapping[str, Any], say: Say | None) -> None:
        """Put a question on the pile, once; ``say`` is None for one that no plan foresaw (an effect check)."""
        if prompt["prompt_id"] not in self._known and say != "leave":
            self._known.add(prompt["prompt_id"])
            self._pile.append(Asked(prompt, say))
            self._more.set()

    def knows(self, prompt_id: str) -> bool:
        """Say whether somebody answers this question, or has."""
        return prompt_id in self._known

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        """Look at the list of questions for what no plan foresaw: those of child runs are in nobody's stream."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            answer = await insist(self._bases, self._chance.randrange(len(self._bases)), "GET", "/api/v1/prompts")
            for prompt in answer.json["items"]:
                if prompt["kind"] == "effect_check":
                    self.ask(prompt, None)

    async def _work(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(self._chance.random() * 0.02)
            if not self._pile:
                self._more.clear()
                continue
            self._spawn(self._answer(self._pile.pop(self._chance.randrange(len(self._pile)))))

    async def _answer(self, asked: Asked) -> None:
        actions = self._actions(asked)
        if asked.say == "timer":
            # Nobody answers in time, or somebody answers just when the time is over.
            await asyncio.sleep(TIMER_SECONDS * (0.7 + self._chance.random() * 0.6))
        first = self._chance.randrange(len(self._bases))
        said = [self._decide(asked.prompt["prompt_id"], action, first + n) for n, action in enumerate(actions)]
        await asyncio.gather(*said)

    def _actions(self, asked: Asked) -> list[str]:
        prompt = asked.prompt
        if prompt["kind"] == "effect_check":
            begun = self._ledger.has_begun(prompt["run_id"], prompt["node_id"])
            return ["happened" if begun else "not_happened"]
        if asked.say == "race":
            return self._chance.sample(["approve", "reject"], 2)
        if asked.say == "timer":
            return self._chance.choice(([], ["approve"], ["approve"]))
        return [asked.say or "approve"]

    async def _decide(self, prompt_id: str, action: str, first: int) -> None:
        path = f"/api/v1/prompts/{prompt_id}/decisions"
        answer = await insist(self._bases, first, "POST", path, body={"action": action})
        self.responses.append(Response(prompt_id, action, answer.status, answer.json))
