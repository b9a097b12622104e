"""A workflow: outline, text, style, each from what the one before left in ``shared``."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from pocketflow import Flow, Node

RESULT = "final"


class Outline(Node):
    def prep(self, shared: dict[str, Any]) -> str:
        topic: str = shared["topic"]
        return topic

    def exec(self, prep_res: str) -> list[str]:
        return [f"What {prep_res} is", f"Why {prep_res} matters"]

    def post(self, shared: dict[str, Any], prep_res: str, exec_res: list[str]) -> str:
        shared["sections"] = exec_res
        return "default"


class Write(Node):
    def __init__(self) -> None:
        super().__init__(max_retries=3)
        self.tried = 0

    def prep(self, shared: dict[str, Any]) -> list[str]:
        sections: list[str] = shared["sections"]
        return sections

    def exec(self, prep_res: list[str]) -> str:
        self.tried += 1
        if self.tried == 1:
            raise TimeoutError("the first try is always slow")
        return " ".join(f"{section}." for section in prep_res)

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: str) -> None:
        shared["draft"] = exec_res


class Style(Node):
    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        shared["final"] = shared["draft"].replace(".", "!")
        return "finished"


outline, write, style = Outline(), Write(), Style()
outline >> write >> style
flow = Flow(start=outline)
