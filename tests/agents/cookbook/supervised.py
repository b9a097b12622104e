"""A supervisor: a flow as a node of another, whose answer is sent back until it is good."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from pocketflow import Flow, Node

RESULT = "answer"
GUESSES = ("...", "I do not know", "It is 42")


class Work(Node):
    def prep(self, shared: dict[str, Any]) -> int:
        return int(shared.get("tries", 0))

    def exec(self, prep_res: int) -> str:
        return GUESSES[prep_res]

    def post(self, shared: dict[str, Any], prep_res: int, exec_res: str) -> str:
        shared["tries"], shared["answer"] = prep_res + 1, exec_res
        return "worked"


class Supervise(Node):
    def prep(self, shared: dict[str, Any]) -> str:
        answer: str = shared["answer"]
        return answer

    def exec(self, prep_res: str) -> bool:
        return prep_res.startswith("It is")

    def post(self, shared: dict[str, Any], prep_res: str, exec_res: bool) -> str | None:
        return None if exec_res else "again"


worker, supervise = Flow(start=Work()), Supervise()
worker - "worked" >> supervise
supervise - "again" >> worker
flow = Flow(start=worker)
