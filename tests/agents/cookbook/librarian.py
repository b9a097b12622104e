"""Retrieval: an offline flow makes an index, an online one answers from it; both are parts of one."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from collections import Counter
from typing import Any

from pocketflow import BatchNode, Flow, Node

RESULT = "answer"


class Index(BatchNode):
    def prep(self, shared: dict[str, Any]) -> list[str]:
        texts: list[str] = shared["texts"]
        return texts

    def exec(self, prep_res: str) -> Counter[str]:
        return Counter(prep_res.lower().split())

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: list[Counter[str]]) -> str:
        shared["index"] = exec_res
        return "default"


class Retrieve(Node):
    def prep(self, shared: dict[str, Any]) -> tuple[list[Counter[str]], list[str]]:
        return shared["index"], shared["question"].lower().split()

    def exec(self, prep_res: tuple[list[Counter[str]], list[str]]) -> int:
        index, words = prep_res
        scores = [sum(counts[word] for word in words) for counts in index]
        return scores.index(max(scores))

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: int) -> str:
        shared["found"] = shared["texts"][exec_res]
        return "default"


class Answer(Node):
    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        shared["answer"] = f"It says: {shared['found']}"
        return "default"


offline = Flow(start=Index())
retrieve = Retrieve()
retrieve >> Answer()
online = Flow(start=retrieve)
offline >> online
flow = Flow(start=offline)
