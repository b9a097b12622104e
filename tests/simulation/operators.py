"""Operators: they answer what is open, in any order, twice, at the same time, late or never; others come to the relief.

Which prompts are open they read past the service, so that a simulation need not serve inboxes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.errors import FlexError, PromptSettled
from contracts.prompts import ACTIONS_WITH_ANSWER, ACTIONS_WITH_REASON, DecisionInput
from tests.simulation.outside import ANA, BEN, LOCAL, Outside, Said, person
from tests.simulation.process import Process, Unreachable

PATIENCE: Final = 12
"""How often relief tries before the question is taken back."""


@dataclass(frozen=True)
class Asked:
    """An open prompt, as far as somebody who answers needs to know it."""

    prompt_id: str
    run_id: str
    node_id: str
    kind: str
    actions_json: str
    quorum: int
    proposed_json: str
    answer_schema_json: str
    assignees_json: str
    claimed_by: str | None


class Operators:
    """Everybody who may decide."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._chance = outside, outside.chance
        self._known: set[str] = set()
        self._agreed: dict[str, dict[str, Any]] = {}
        """prompt → what those say who come last"""
        self._tries = Counter[str]()
        self._answers = 0

    async def work(self) -> None:
        """Look for open prompts and have them answered, until cancelled."""
        while True:
            for asked in self._open():
                if asked.prompt_id not in self._known or (self._outside.hasty and self._chance.random() < 0.5):
                    self._known.add(asked.prompt_id)
                    self._meet(asked)
            await asyncio.sleep(0.5)

    def hurry(self) -> None:
        """Have some of those who watch answer what was just asked, at once."""
        if self._chance.random() < 0.4:
            for asked in self._open():
                if asked.prompt_id not in self._known:
                    self._known.add(asked.prompt_id)
                    self._meet(asked, 0.02)

    def _open(self) -> list[Asked]:
        columns = ", ".join(field.name for field in fields(Asked))
        rows = self._outside.file.rows(f"SELECT {columns} FROM prompts WHERE status = 'open' ORDER BY prompt_id")
        return [Asked(*row) for row in rows]

    # --- who does what -----------------------------------------------------------------------------------------------

    def _meet(self, asked: Asked, latest: float | None = None) -> None:
        """Decide who will say what, and when; several may act at once."""
        chance, start = self._chance, self._outside.start
        if self._outside.hasty:
            self._relieve(asked)
            return
        latest = latest or chance.choice([0.05, 1.0, 6.0])
        common = self._body(asked)
        many = max(0, asked.quorum + chance.choice([-1, 0, 0, 0, 1]))
        for who in chance.sample((ANA, BEN, LOCAL), min(many, 3)):
            body = self._body(asked) if chance.random() < 0.2 else common
            start(self._decide(who, asked, body, chance.random() * latest))
        if chance.random() < 0.15:
            start(self._handle(chance.choice((ANA, BEN)), asked.prompt_id, chance.random() * latest))

    def _relieve(self, asked: Asked) -> None:
        """Have people who have not said anything yet agree: a vote is never taken back, so others may be at odds."""
        self._tries[asked.prompt_id] += 1
        if self._tries[asked.prompt_id] > PATIENCE:
            self._outside.start(self._give_up(asked.prompt_id))
            return
        if asked.claimed_by is not None:
            self._outside.start(self._free(asked.prompt_id))
        if asked.prompt_id not in self._agreed:
            self._agreed[asked.prompt_id] = self._body(asked)
        for who in self._relief(asked):
            body = self._agreed[asked.prompt_id]
            self._outside.start(self._decide(who, asked, body, self._chance.random() * 0.1))

    def _relief(self, asked: Asked) -> list[Principal]:
        users = orjson.loads(asked.assignees_json)["users"]
        fresh = [person(f"relief-{number}") for number in range(asked.quorum)]
        return [person(name.removeprefix("user:")) for name in users] + fresh

    def _body(self, asked: Asked) -> dict[str, Any]:
        """Choose an action and an answer that fits."""
        offered = orjson.loads(asked.actions_json)
        kind = [action for action in offered if action not in ("reject", "request_changes")]
        action = self._chance.choice(kind if kind and self._chance.random() < 0.85 else offered)
        body: dict[str, Any] = {"action": action}
        if action in ACTIONS_WITH_ANSWER:
            body["answer"] = self._answer(asked)
        if action in ACTIONS_WITH_REASON:
            body["comment"] = "Another one, please."
        return body

    def _answer(self, asked: Asked) -> Any:
        """Make an answer that nobody else makes, so that it is known again wherever it ends up."""
        self._answers += 1
        fresh = {
            "by": "people", "ok": True, "list": [1], "mended": True, "answer": self._answers,
            "last": {"mended": True},
        }  # fmt: skip
        proposed, schema = orjson.loads(asked.proposed_json), orjson.loads(asked.answer_schema_json)
        if asked.kind == "plan_review" or (isinstance(proposed, dict) and {"script", "over"} & proposed.keys()):
            return proposed
        return [fresh] if isinstance(proposed, list) or _takes_list(schema) else fresh

    # --- doing it ----------------------------------------------------------------------------------------------------

    async def _decide(self, who: Principal, asked: Asked, body: dict[str, Any], seconds: float) -> None:
        await asyncio.sleep(seconds)
        prompt_id = asked.prompt_id
        if asked.kind == "effect_check":
            # About an effect people look, and say what is true.
            happened = self._outside.ledger.happened(asked.run_id, asked.node_id)
            body = {"action": "happened" if happened else "not_happened"}
        said = Said(0.0, who.subject, prompt_id, body["action"], body.get("answer"), "unknown")
        self._outside.said.append(said)
        decision = DecisionInput.model_validate(body)
        try:
            decided = await self._outside.insist(
                lambda process: process.desk.decide(who, prompt_id, decision, "http"), tries=8
            )
            said.outcome = "repeated" if decided.repeated else "settled" if decided.settled else "voted"
        except Unreachable:
            pass
        except FlexError as error:
            said.outcome = error.code
            if isinstance(error, PromptSettled) and error.extra["decision"] is not None:
                said.winner = error.extra["decision"]["decision_id"]
        said.at = asyncio.get_running_loop().time()
        self._outside.tell("said", said.who, prompt_id, said.action, said.outcome)

    async def _handle(self, who: Principal, prompt_id: str, seconds: float) -> None:
        """Claim, release, pass on or take back a question."""
        await asyncio.sleep(seconds)
        what = self._chance.choice(["claim", "claim", "release", "delegate", "delegate", "withdraw"])

        async def work(process: Process) -> None:
            hands = process.hands
            match what:
                case "claim":
                    await hands.claim(who, prompt_id, "http")
                case "release":
                    await hands.release(who, prompt_id, "http")
                case "delegate":
                    await hands.delegate(who, prompt_id, LOCAL.subject, None, "http")
                case "withdraw":
                    await hands.withdraw(who, prompt_id, None, "http")

        await self._quietly(work, who.subject, what, prompt_id)

    async def _free(self, prompt_id: str) -> None:
        """Take a claim away from whoever has it."""

        async def work(process: Process) -> None:
            await process.hands.release(person("relief-0"), prompt_id, "http", force=True)

        await self._quietly(work, "relief", "frees", prompt_id)

    async def _give_up(self, prompt_id: str) -> None:
        """Take back a question on which nobody can agree any more."""

        async def work(process: Process) -> None:
            await process.hands.withdraw(person("relief-0"), prompt_id, None, "http")

        await self._quietly(work, "relief", "withdraws", prompt_id)

    async def _quietly(self, work: Any, *what: str) -> None:
        """Do something whose refusal is fine."""
        try:
            await self._outside.insist(work, tries=3)
            self._outside.tell(*what)
        except Unreachable:
            self._outside.tell(*what, "unknown")
        except FlexError as error:
            self._outside.tell(*what, error.code)


def _takes_list(schema: Any) -> bool:
    """Say whether a form is for a list."""
    if not isinstance(schema, dict):
        return False
    return schema.get("type") == "array" or any(_takes_list(part) for part in schema.get("allOf", []))
