"""Human review: a draft is shown, and goes on or back as people say."""

# mypy: disable-error-code="misc"

from __future__ import annotations

from typing import Any

from pocketflow import Flow, Node

from capabilities import Ask, PromptKind, PromptSpec

RESULT = "post"


class Draft(Node):
    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        shared["drafts"] = [*shared.get("drafts", []), f"{shared['subject']} ({len(shared.get('drafts', [])) + 1})"]
        return "default"


class Review(Node):
    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        question = f"Publish {shared['drafts'][-1]}?"
        shared["post"] = Ask(
            PromptSpec(kind=PromptKind.CHOICE, question=question, answer_schema={"enum": ["yes", "no"]})
        )
        return "asked"


class Publish(Node):
    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
        shared["post"] = {"published": shared["drafts"][-1], "drafts": len(shared["drafts"])}
        return "done"


draft, review, publish = Draft(), Review(), Publish()
draft >> review
review - "yes" >> publish
review - "no" >> draft
flow = Flow(start=draft)
