"""Chats: what a turn is submitted as, whichever door it comes through (W1, W6).

A turn is an envelope whose plan is one ``chat`` node, or a stored flow that has one; nothing runs here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.access import Principal
from contracts.errors import EnvelopeInvalid, ErrorItem
from contracts.wire import Wire, read_model
from engine.kinds.chat import MAX_ROUNDS, MAX_TOOLS, OUTPUT, Sampling
from engine.kinds.talk import MAX_CHARACTERS, MAX_MESSAGES
from service.flows import Flows

NODE: Final = "chat"
"""The node of a chat that is no stored flow."""
APPROVAL: Final = "tool_approval"
"""The policy by which people are asked about calls, where the settings say so."""
_Id = Annotated[str, Field(min_length=1, max_length=128)]
_Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]


class FunctionInput(Wire):
    """What a model asked to be called in an earlier turn."""

    name: Annotated[str, Field(max_length=200)]
    arguments: _Text = ""


class ToolCallInput(Wire):
    """A call of an earlier turn."""

    id: Annotated[str, Field(max_length=200)]
    type: Literal["function"] = "function"
    function: FunctionInput


class TextPart(Wire):
    """A part of a message; only text is taken."""

    type: Literal["text"]
    text: _Text


class ChatMessage(Wire):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: _Text | Annotated[list[TextPart], Field(max_length=1_000)] | None = None
    name: Annotated[str, Field(max_length=200)] | None = None
    tool_calls: Annotated[list[ToolCallInput], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None

    @property
    def text(self) -> str:
        """Return its text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatInput(Wire):
    """A turn: the conversation so far, and what may be done about it.

    ``message`` is short for one more message of the user. What is left out of ``tools``, ``instructions`` and
    ``max_rounds`` is as the settings say. With ``flow_id`` the flow's own chat answers, and those three are the flow's.
    """

    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)] = Field(default_factory=list)
    message: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)] | None = None
    tools: Annotated[list[_Id], Field(max_length=MAX_TOOLS)] | None = None
    instructions: Annotated[str, Field(max_length=20_000)] | None = None
    max_rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | None = None
    sampling: Sampling | None = None
    flow_id: _Id | None = None
    version: Annotated[int, Field(ge=1)] | None = None
    policies: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> ChatInput:
        if not self.messages and self.message is None:
            raise PydanticCustomError("required", "Give messages, or a message.")
        own = [name for name in ("tools", "instructions", "max_rounds", "sampling") if getattr(self, name) is not None]
        if self.flow_id is not None and own:
            raise PydanticCustomError("flow_decides", "A flow's chat has its own {names}.", {"names": ", ".join(own)})
        if self.flow_id is None and self.version is not None:
            raise PydanticCustomError("version_without_flow", "A version is of a flow; name the flow.")
        return self


@dataclass(frozen=True, slots=True)
class ChatDefaults:
    """What a chat has that does not say otherwise.

    ``approve`` says which calls people are asked about first: ``none``, those that must not be repeated (``once``), or
    ``all``.
    """

    tools: Sequence[str] = ()
    instructions: str = ""
    max_rounds: int = 8
    approve: Literal["none", "once", "all"] = "once"


class Chats:
    """From a turn to the envelope that it is submitted as."""

    def __init__(self, flows: Flows, defaults: ChatDefaults | None = None) -> None:
        """Take the flows whose chats may answer, and what a chat has by itself."""
        self._flows, self._defaults = flows, defaults or ChatDefaults()

    async def envelope(self, principal: Principal, body: Any, at: str = "") -> dict[str, Any]:
        """Return the envelope (JSON) of a turn; ``body`` is a :class:`ChatInput` as JSON, ``at`` its pointer.

        Its answer is what the chat puts out, ``{"text", "finish", "rounds", "tool_calls", "usage"}``, and a flow's
        answer is the flow's. Raises ``EnvelopeInvalid``, ``FlowNotFound``, ``FlowVersionNotFound``.
        """
        given = read_model(ChatInput, body, EnvelopeInvalid, at)
        messages = [message.model_dump(mode="json", exclude_none=True) for message in given.messages]
        if given.message is not None:
            messages.append({"role": "user", "content": given.message})
        objective = _objective(given)
        if given.flow_id is not None:
            return await self._of_flow(principal, given, given.flow_id, messages, objective)
        return {
            "objective": objective,
            "inputs": {"messages": messages},
            "output_contract": {"schema": dict(OUTPUT)},
            "policies": _gated(given.policies, self._defaults.approve),
            "context": given.context,
            "metadata": given.metadata,
            "workflow": {"plan": self._plan(given)},
        }

    def _plan(self, given: ChatInput) -> dict[str, Any]:
        defaults = self._defaults
        node: dict[str, Any] = {
            "node_id": NODE,
            "kind": "chat",
            "inputs": {"messages": {"from": "/inputs/messages"}},
            "tools": list(defaults.tools if given.tools is None else given.tools),
            "max_rounds": given.max_rounds or defaults.max_rounds,
            "instructions": defaults.instructions if given.instructions is None else given.instructions,
        }
        if given.sampling is not None:
            node["sampling"] = given.sampling.model_dump(mode="json", exclude_none=True)
        return {"nodes": [node], "edges": [], "output": {"mode": "map", "map": {"": {"node_id": NODE, "pointer": ""}}}}

    async def _of_flow(
        self, principal: Principal, given: ChatInput, flow_id: str, messages: list[Any], objective: str
    ) -> dict[str, Any]:
        asked: dict[str, Any] = {"inputs": {"messages": messages}, "objective": objective, "policies": given.policies}
        asked |= {"context": given.context, "metadata": given.metadata}
        if given.version is not None:
            asked["version"] = given.version
        envelope = await self._flows.envelope(principal, flow_id, asked)
        version = envelope["workflow"]["version"]
        if not has_chat(await self._flows.document(principal, flow_id, str(version))):
            raise EnvelopeInvalid(errors=[ErrorItem("/flow_id", "no_chat", "The flow has no chat.")])
        return envelope


def has_chat(document: Mapping[str, Any]) -> bool:
    """Say whether a flow's plan has a chat."""
    nodes = document["plan"].get("nodes")
    nodes = nodes if isinstance(nodes, list) else []
    return any(isinstance(node, dict) and node.get("kind") == "chat" for node in nodes)


def answer_text(output: Any) -> str | None:
    """Return the words in the output of a turn: a text, or the ``text`` of an object; None when there are none."""
    if isinstance(output, Mapping):
        output = output.get("text")
    return output if isinstance(output, str) else None


def _objective(given: ChatInput) -> str:
    """Return what the run is for: the last thing that the user said."""
    said = [message.text for message in given.messages if message.role == "user"]
    last = given.message or next((text for text in reversed(said) if text.strip()), "") or "Answer."
    return last[:20_000]


def _gated(policies: Mapping[str, Any], approve: str) -> dict[str, Any]:
    """Return a turn's policies; people are asked before calls as the settings say, whatever the caller adds."""
    if approve == "none":
        return dict(policies)
    rule: dict[str, Any] = {"id": APPROVAL, "when": "before", "question": "May this be done?"}
    if approve == "once":
        rule["selector"] = {"effects": "once"}
    given = policies.get("hitl", [])
    return {**policies, "hitl": [rule, *given] if isinstance(given, list) else given}
