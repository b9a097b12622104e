"""An agent: it decides again and again whether to look something up or to answer."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from pocketflow import Flow, Node

LIBRARY = {"river": "The Aare is 288 km long.", "town": "Thun lies on the Aare."}
RESULT = "answer"


class Decide(Node):
    def prep(self, shared: dict[str, Any]) -> tuple[str, list[str]]:
        return shared["question"], shared.setdefault("notes", [])

    def exec(self, prep_res: tuple[str, list[str]]) -> str | None:
        question, notes = prep_res
        missing = [topic for topic, note in LIBRARY.items() if topic in question and note not in notes]
        return missing[0] if missing else None

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: str | None) -> str:
        shared["topic"] = exec_res
        return "answer" if exec_res is None else "search"


class Search(Node):
    def prep(self, shared: dict[str, Any]) -> str:
        topic: str = shared["topic"]
        return topic

    def exec(self, prep_res: str) -> str:
        return LIBRARY[prep_res]

    def post(self, shared: dict[str, Any], prep_res: str, exec_res: str) -> str:
        shared["notes"].append(exec_res)
        return "decide"


class Answer(Node):
    def prep(self, shared: dict[str, Any]) -> list[str]:
        notes: list[str] = shared["notes"]
        return notes

    def exec(self, prep_res: list[str]) -> str:
        return " ".join(prep_res)

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: str) -> str:
        shared["answer"] = exec_res
        return "done"


def create_agent_flow() -> Flow:
    decide, search, answer = Decide(), Search(), Answer()
    decide - "search" >> search
    decide - "answer" >> answer
    search - "decide" >> decide
    return Flow(start=decide)
