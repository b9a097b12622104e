"""A capability behind an HTTP address: one POST per call, through the same egress guard as ``http.post`` (F15).

The body is the bundle with ``capability_id``, ``version``, ``run_id``, ``node_id`` and ``idempotency_key``; the key
also travels as the ``Idempotency-Key`` header. The answer is ``{"output": …, "usage"?: {…}, "memory"?: […]}`` or
``{"error": {…}}``. ``memory`` is what shall be remembered or forgotten when the node completes (R5).
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from capabilities.authoring import CapabilityBase
from capabilities.egress import EgressPolicy
from capabilities.http_request import Reply, send
from contracts.capability import Bundle, CallContext, CapabilityError, CapabilitySpec, Result
from contracts.ids import is_token
from contracts.memory import MAX_WRITES
from contracts.outcome import Fail, Usage
from contracts.wire import Wire, has_nul

_NEVER_SENT: Final = frozenset({"egress_refused", "host_unknown", "http_unreachable"})
_SAYINGS: Final = frozenset({"output", "ask", "error"})
_MAX_MESSAGE: Final = 2_000


class RemoteUsage(Wire):
    """What the call cost: model tokens, money in the operator's currency."""

    tokens: Annotated[int, Field(ge=0, le=10**12)] = 0
    cost: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] = 0.0


class RemoteError(Wire):
    """A failure in the other side's own words; it is tried again only if it says so."""

    code: str
    message: Annotated[str, Field(min_length=1)]
    retryable: bool = False
    after_ms: Annotated[int, Field(ge=0, le=86_400_000)] | None = None

    @model_validator(mode="after")
    def _code(self) -> RemoteError:
        if not is_token(self.code):
            raise PydanticCustomError("bad_id", "A code is 1 to 128 letters, digits and . _ : -")
        return self

    def raised(self) -> CapabilityError:
        """Return the error as the engine takes it."""
        message = self.message[:_MAX_MESSAGE]
        return CapabilityError(self.code, message, retryable=self.retryable, after_ms=self.after_ms)


class RemoteWrite(Wire):
    """A key to be remembered (``value``) or forgotten (``forget``) in a scope that the run names.

    ``expected_revision`` is the revision that it must have by then, 0: it must not be there.
    """

    scope: Annotated[str, Field(min_length=1, max_length=300)]
    key: Annotated[str, Field(min_length=1, max_length=128)]
    value: Any = None
    forget: bool = False
    expected_revision: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> RemoteWrite:
        if self.forget == ("value" in self.model_fields_set):
            raise PydanticCustomError("one_of", "A write has exactly one of value and forget: true.")
        return self

    def wanted(self, context: CallContext) -> None:
        """Have it written with the node's completion; raises as :meth:`CallContext.remember` does."""
        if self.forget:
            context.forget(self.scope, self.key, self.expected_revision)
        else:
            context.remember(self.scope, self.key, self.value, self.expected_revision)


class RemoteAnswer(Wire):
    """What the other side answers: exactly one of ``output``, ``ask`` and ``error``; ``memory`` goes with an output."""

    output: Any = None
    usage: RemoteUsage = Field(default_factory=RemoteUsage)
    memory: Annotated[list[RemoteWrite], Field(max_length=MAX_WRITES)] = Field(default_factory=list)
    ask: Any = None
    error: RemoteError | None = None

    @model_validator(mode="after")
    def _one(self) -> RemoteAnswer:
        if len(self.model_fields_set & _SAYINGS) != 1 or ("error" in self.model_fields_set and self.error is None):
            raise PydanticCustomError("one_of", "An answer has exactly one of output, ask and error.")
        if self.memory and "output" not in self.model_fields_set:
            raise PydanticCustomError("one_of", "Only an output is remembered with.")
        return self


class RemoteCapability(CapabilityBase):
    """Calls an address. What may have been done and cannot be repeated becomes a question to people."""

    def __init__(self, spec: CapabilitySpec, url: str, egress: EgressPolicy, timeout_seconds: float) -> None:
        """Take what was registered, and where requests may go."""
        self.spec, self._url = spec, url
        self._egress, self._seconds = egress, timeout_seconds

    @property
    def address(self) -> str:
        """Return where it is; part of what an approval of a call is bound to (``contracts.capability.identity``)."""
        return self._url

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        """Post the bundle and return a :class:`Result`, or an ambiguous ``Fail`` for a ``once`` effect.

        Raises :class:`CapabilityError`: the transport's codes, ``remote_busy`` (5xx, 408, 425, 429; retryable),
        ``remote_refused`` (other statuses from 300), ``remote_bad_answer``, ``remote_ask_unsupported``, those of
        :meth:`CallContext.remember`, and the codes of the other side's ``error``.
        """
        headers = {"content-type": "application/json", "idempotency-key": context.idempotency_key}
        body = orjson.dumps(self._asked(bundle, context))
        try:
            reply = await send(self._egress, "POST", self._url, headers, body, self._seconds)
        except CapabilityError as error:
            if self.spec.effects == "once" and error.code not in _NEVER_SENT:
                return _unknown(error)
            raise
        try:
            return _result(reply, context)
        except (_Unclear, _Overloaded) as error:
            if self.spec.effects == "once" and (isinstance(error, _Unclear) or reply.status >= 500):
                return _unknown(error)
            raise

    def _asked(self, bundle: Bundle, context: CallContext) -> dict[str, Any]:
        return {
            "capability_id": self.spec.capability_id,
            "version": self.spec.version,
            "run_id": context.run_id,
            "node_id": context.node_id,
            "attempt": context.attempt,
            "idempotency_key": context.idempotency_key,
            "objective": bundle.objective,
            "inputs": dict(bundle.inputs),
            "constraints": dict(bundle.constraints),
            "directives": dict(bundle.directives),
            "instructions": list(bundle.instructions),
            "documents": list(bundle.documents),
            "memory": dict(bundle.memory),
            "revisions": {
                scope: {key: context.revision(scope, key) for key in held} for scope, held in bundle.memory.items()
            },
            "contract": bundle.contract,
            "errors": [dict(error) for error in bundle.errors],
        }


class _Unclear(CapabilityError):
    """The other side took the call, and what it answered cannot be read."""


class _Overloaded(CapabilityError):
    """The other side could not answer now."""


def _unknown(error: CapabilityError) -> Fail:
    return Fail(error.code, f"{error.message} Whether it was done is not known.", ambiguous=True)


def _result(reply: Reply, context: CallContext) -> Result:
    """Return the output, and note what shall be remembered; or raise what the answer amounts to."""
    answer = _answer(reply.body)
    said = None if answer is None else answer.error
    if reply.status >= 300:
        raise _refusal(reply, said)
    if said is not None:
        raise said.raised()
    if answer is None:
        message = "The answer is not JSON with exactly one of output, ask and error."
        raise _Unclear("remote_bad_answer", message, retryable=False)
    if "ask" in answer.model_fields_set:
        message = "It asks people, which capabilities behind HTTP cannot do yet."
        raise CapabilityError("remote_ask_unsupported", message, retryable=False)
    usage = Usage(answer.usage.tokens, answer.usage.cost)
    try:
        for write in answer.memory:
            write.wanted(context)
    except CapabilityError as error:
        # The work was done and paid for; only what it wanted kept cannot be.
        error.usage = usage
        raise
    return Result(answer.output, usage)


def _refusal(reply: Reply, said: RemoteError | None) -> CapabilityError:
    """Return the error of a status: its own words if it has some, but the status says whether to try again."""
    code = "remote_busy" if reply.busy else "remote_refused"
    message = f"The capability answered {reply.status}."
    if reply.status < 400:
        return _Unclear(code, f"{message} Redirects are not followed.", retryable=False)
    if said is not None:
        code, message = said.code, said.message[:_MAX_MESSAGE]
    if not reply.busy:
        return CapabilityError(code, message, retryable=False)
    return _Overloaded(code, message, after_ms=reply.after_ms if said is None else said.after_ms)


def _answer(body: bytes) -> RemoteAnswer | None:
    """Read an answer; None for one that is none, or holds what no database stores."""
    try:
        value = orjson.loads(body)
        if b"\\u0000" in body and has_nul(value):
            return None
        return RemoteAnswer.model_validate(value)
    except (orjson.JSONDecodeError, ValidationError):
        return None
