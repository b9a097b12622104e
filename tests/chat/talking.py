"""Plans of chats, and what tests look at in their frames."""

from __future__ import annotations

from typing import Any

from tests.spine.running import envelope, plan
from tests.spine.sse import Frame


def text_only() -> dict[str, Any]:
    """An output map: the chat's text is the answer."""
    return {"": {"node_id": "chat", "pointer": "/text"}}


def chat(*tools: str, **more: Any) -> dict[str, Any]:
    """A plan of one chat; its text is the answer."""
    node = {
        "node_id": "chat",
        "kind": "chat",
        "tools": [f"spine.{name}" for name in tools],
        "inputs": {"messages": {"from": "/inputs/messages"}},
        **more,
    }
    return plan(node, output=text_only())


def talk(*tools: str, says: str = "Hello", policies: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An envelope of one turn."""
    messages = [{"role": "user", "content": says}]
    return envelope(chat(*tools, **more), inputs={"messages": messages}, policies=policies or {})


def gate(when: str = "before", **selector: str) -> dict[str, Any]:
    """A policy that has people asked about calls."""
    rule: dict[str, Any] = {"id": "sign_off", "when": when, "question": "May it?"}
    return {"hitl": [rule | ({"selector": selector} if selector else {})]}


def shapes(frames: list[Frame]) -> list[str]:
    """The sequence from the first node on, without text."""
    shown = [frame.shape for frame in frames if frame.type != "node_delta"]
    return shown[shown.index("plan_generated") + 1 :]


def heard(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the model was told by tools: (call, content)."""
    return [(message["tool_call_id"], message["content"]) for message in messages if message["role"] == "tool"]
