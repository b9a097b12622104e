"""Reading up to a question, and policies with one gate."""

from __future__ import annotations

from typing import Any

from tests.spine.sse import Reader

OPENING = ["start", "plan_generated"]
ASKED = "run_waiting"


def gated(when: str, **more: Any) -> dict[str, Any]:
    return {"hitl": [{"id": "gate", "when": when, **more}], "retry": {"max_attempts": 1, "base_ms": 0, "max_ms": 0}}


async def question(reader: Reader) -> dict[str, Any]:
    """Read on until the run waits, and return the last prompt before that."""
    prompt: dict[str, Any] = (await reader.until("hitl_request")).payload["prompt"]
    await reader.until(ASKED)
    return prompt


GATE = ["node_start:gate", "hitl_request:gate", "run_waiting", "hitl_resolved:gate", "run_resumed"]
