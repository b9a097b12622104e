"""Map-reduce: every application is read, judged, and the verdicts are counted."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from pocketflow import BatchNode, Flow, Node

RESULT = "summary"


class Judge(BatchNode):
    def prep(self, shared: dict[str, Any]) -> list[tuple[str, int]]:
        return sorted(shared["applications"].items())

    def exec(self, prep_res: tuple[str, int]) -> tuple[str, bool]:
        name, years = prep_res
        return name, years >= 3

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: list[tuple[str, bool]]) -> str:
        shared["verdicts"] = dict(exec_res)
        return "default"


class Count(Node):
    def prep(self, shared: dict[str, Any]) -> dict[str, bool]:
        verdicts: dict[str, bool] = shared["verdicts"]
        return verdicts

    def exec(self, prep_res: dict[str, bool]) -> dict[str, Any]:
        good = [name for name, fits in prep_res.items() if fits]
        return {"fit": good, "share": len(good) / len(prep_res)}

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: dict[str, Any]) -> None:
        shared["summary"] = exec_res


judge = Judge()
judge >> Count()
flow = Flow(start=judge)
