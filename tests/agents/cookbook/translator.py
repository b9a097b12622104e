"""A batch: one text into several languages, one after the other."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from pocketflow import BatchNode, Flow

WORDS = {"de": "Guten Morgen", "fr": "Bonjour", "it": "Buongiorno"}


class Translate(BatchNode):
    def prep(self, shared: dict[str, Any]) -> list[str]:
        languages: list[str] = shared["languages"]
        return languages

    def exec(self, prep_res: str) -> str:
        return WORDS[prep_res]

    def post(self, shared: dict[str, Any], prep_res: list[str], exec_res: list[str]) -> str:
        shared["result"] = dict(zip(prep_res, exec_res, strict=True))
        return "default"


flow = Flow(start=Translate())
