"""A capability behind an HTTP address: one POST per call, through the same egress guard as ``http.post`` (F15).

The body is the bundle with ``capability_id``, ``version``, ``run_id``, ``node_id`` and ``idempotency_key``; the key
also travels as the ``Idempotency-Key`` header. The answer is ``{"output": …, "usage"?: {…}}`` or ``{"error": {…}}``.
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


class RemoteAnswer(Wire):
    """What the other side answers: exactly one of ``output``, ``ask`` and ``error``."""

    output: Any = None
    usage: RemoteUsage = Field(default_factory=RemoteUsage)
    ask: Any = None
    error: RemoteError | None = None

    @model_validator(mode="after")
    def _one(self) -> RemoteAnswer:
        if len(self.model_fields_set & _SAYINGS) != 1 or ("error" in self.model_fields_set and self.error is None):
            raise PydanticCustomError("one_of", "An answer has exactly one of output, ask and error.")
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
        ``remote_refused`` (other statuses from 300), ``remote_bad_answer``, ``remote_ask_unsupported``, and the
        codes of the other side's ``error``.
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
            return _result(reply)
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
            "contract": bundle.contract,
            "errors": [dict(error) for error in bundle.errors],
        }


class _Unclear(CapabilityError):
    """The other side took the call, and what it answered cannot be read."""


class _Overloaded(CapabilityError):
    """The other side could not answer now."""


def _unknown(error: CapabilityError) -> Fail:
    return Fail(error.code, f"{error.message} Whether it was done is not known.", ambiguous=True)


def _result(reply: Reply) -> Result:
    """Return the output, or raise what the answer amounts to."""
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
    return Result(answer.output, Usage(answer.usage.tokens, answer.usage.cost))


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
