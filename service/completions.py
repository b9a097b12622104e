"""Turns in OpenAI's spelling: what may be asked, and what becomes of it (W6; OpenAI API, chat completions).

What such a request can say and this service does not do is refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from contracts.access import Principal
from contracts.errors import CompletionInvalid, ErrorItem, ModelNotFound, NotFound
from contracts.ids import is_token
from contracts.wire import Wire, read_model
from engine.kinds.chat import Sampling
from engine.kinds.talk import MAX_MESSAGES
from service.chats import Chats, has_chat
from service.flows import Flows

OWN: Final = "flex"
"""The model that is no flow: plain chat with the configured tools."""
FLOW: Final = "flow:"
MAX_LISTED: Final = 100
_ECHOED: Final = frozenset({"refusal", "annotations", "audio", "function_call", "reasoning_content"})
"""Members of an assistant's message that clients send back and that say nothing here."""
_SAMPLING: Final = tuple(Sampling.model_fields)
_USUAL: Final[Mapping[str, Sequence[Any]]] = {
    "n": (1,),
    "store": (False,),
    "logprobs": (False,),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("auto", "none"),
}
"""What may be said as long as it changes nothing."""


class StreamOptions(Wire):
    """Whether the last chunk says what the turn cost."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class FlexOptions(Wire):
    """What flex knows beyond OpenAI's members (``extra_body={"flex": …}`` in its clients); see :class:`ChatInput`."""

    tools: list[str] | None = None
    instructions: str | None = None
    max_rounds: int | None = None
    policies: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)


class CompletionInput(Sampling):
    """A chat completion as it is asked for. ``model`` is ``flex``, ``flow:<id>`` or ``flow:<id>@<version>``."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=500)] | None = None
    metadata: dict[str, str] | None = None
    flex: FlexOptions = Field(default_factory=FlexOptions)
    n: Any = None
    store: Any = None
    logprobs: Any = None
    parallel_tool_calls: Any = None
    service_tier: Any = None
    response_format: Any = None
    modalities: Any = None
    tools: Any = None
    tool_choice: Any = None

    @field_validator(*_USUAL)
    @classmethod
    def _changes_nothing(cls, value: Any, info: Any) -> Any:
        if value is not None and value not in _USUAL[info.field_name]:
            raise PydanticCustomError("unsupported_parameter", "This service does not do that; tools are its own.")
        return value


@dataclass(frozen=True, slots=True)
class Asked:
    """A completion that may become a run."""

    model: str
    stream: bool
    include_usage: bool
    envelope: dict[str, Any]


class Completions:
    """The use cases behind OpenAI's paths; runs are started by ``service.runs`` like any other."""

    def __init__(self, chats: Chats, flows: Flows) -> None:
        """Take what makes envelopes of turns, and the flows that are models."""
        self._chats, self._flows = chats, flows

    async def read(self, principal: Principal, body: Any) -> Asked:
        """Return what is asked for, as an envelope.

        Raises ``CompletionInvalid`` (pointers into the body), ``ModelNotFound``, ``EnvelopeInvalid``.
        """
        given = read_model(CompletionInput, body, CompletionInvalid)
        turn: dict[str, Any] = {"messages": plain(given.messages), **given.flex.model_dump(exclude_none=True)}
        sampling = {name: getattr(given, name) for name in _SAMPLING if getattr(given, name) is not None}
        if sampling:
            turn["sampling"] = sampling
        metadata = dict(given.metadata or {}) | ({"user": given.user} if given.user else {})
        if metadata:
            turn["metadata"] = metadata
        if given.model != OWN:
            turn["flow_id"], version = _flow_of(given.model)
            turn |= {} if version is None else {"version": version}
        try:
            envelope = await self._chats.envelope(principal, turn)
        except NotFound as error:
            raise ModelNotFound(f"There is no model {given.model!r}.") from error
        options = given.stream_options or StreamOptions()
        return Asked(given.model, bool(given.stream), options.include_usage, envelope)

    async def models(self, principal: Principal) -> list[dict[str, Any]]:
        """Return what may be named as ``model``: ``flex``, and the tenant's newest published flows with a chat."""
        page = await self._flows.page(principal, cursor=None, limit=MAX_LISTED)
        found = [_model(OWN, 0)]
        for flow in page["items"]:
            version = flow["published_version"]
            if version is None:
                continue
            document = await self._flows.document(principal, flow["flow_id"], str(version))
            if has_chat(document):
                found.append(_model(f"{FLOW}{flow['flow_id']}", 0))
        return found

    async def model(self, principal: Principal, name: str) -> dict[str, Any]:
        """Return one of them. Raises ``ModelNotFound``."""
        if name != OWN:
            flow_id, version = _flow_of(name)
            try:
                found = await self._flows.envelope(principal, flow_id, {} if version is None else {"version": version})
                document = await self._flows.document(principal, flow_id, str(found["workflow"]["version"]))
            except NotFound as error:
                raise ModelNotFound(f"There is no model {name!r}.") from error
            if not has_chat(document):
                raise ModelNotFound(f"The flow {flow_id!r} has no chat.")
        return _model(name, 0)


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "flex"}


def _flow_of(model: str) -> tuple[str, int | None]:
    """Return the flow and version that a model's name means. Raises ``ModelNotFound``."""
    flow_id, at, version = model.removeprefix(FLOW).partition("@")
    numbered = version.isascii() and version.isdigit() and len(version) < 10
    if not model.startswith(FLOW) or not is_token(flow_id) or (at and not numbered):
        raise ModelNotFound(f"There is no model {model[:100]!r}; see GET /v1/models.")
    return flow_id, int(version) if at else None


def plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages without what clients echo and nobody needs.

    Calls that this service ran are visible to its clients, and come back without their results; a model is only told
    of calls that have one.
    """
    answered = {message.get("tool_call_id") for message in messages if message.get("role") == "tool"}
    kept = []
    for message in messages:
        shown = {name: value for name, value in message.items() if value not in (None, []) and name not in _ECHOED}
        calls = shown.pop("tool_calls", None)
        if isinstance(calls, list):
            calls = [_call(call) for call in calls if not isinstance(call, Mapping) or call.get("id") in answered]
            shown |= {"tool_calls": calls} if calls else {}
        if shown.keys() != {"role"} or shown["role"] != "assistant":
            kept.append(shown)
    if not kept:
        raise CompletionInvalid(errors=[ErrorItem("/messages", "required", "There is no message.")])
    return kept


def _call(call: Any) -> Any:
    """Return a call without the place in its reply that streamed chunks give it."""
    return {name: value for name, value in call.items() if name != "index"} if isinstance(call, Mapping) else call
