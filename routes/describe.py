"""Parts of route descriptions that several nouns share."""

from __future__ import annotations

from typing import Final

from contracts import errors
from contracts.lifecycle import RunStatus
from routes.spec import Answer, Param, ref

SUBMITTERS: Final = ("submitter", "operator", "builder", "admin")

_ID_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
_HEADER_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[\\x21-\\x7e]{1,200}$"}
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}

RUN_ID: Final = Param("run_id", "path", "The run.", {"type": "string", "pattern": _ID_PATTERN}, required=True)
PROMPT_ID: Final = Param("prompt_id", "path", "The prompt.", {"type": "string", "pattern": _ID_PATTERN}, required=True)
NODE_ID: Final = Param(
    "node_id",
    "path",
    "The node; items of a map end in `[0]`.",
    {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}(\[[0-9]{1,6}\])*$"},
    required=True,
)
AFTER: Final = Param(
    "after", "query", "Start after this frame id; the larger of this and `Last-Event-ID` counts.", _NUMBER
)
LAST_EVENT_ID: Final = Param("Last-Event-ID", "header", "Start after this frame id (an EventSource sends it).", _NUMBER)
IDEMPOTENCY_KEY: Final = Param("Idempotency-Key", "header", "The same key and body is the same run.", _HEADER_SCHEMA)
PREFER: Final = Param("Prefer", "header", "`wait=N` waits up to N seconds for the end (RFC 7240).", {"type": "string"})
CORRELATION_ID: Final = Param(
    "X-Correlation-Id",
    "header",
    "The caller's name for this piece of work; the body's `correlation_id` wins.",
    _HEADER_SCHEMA,
)
CURSOR: Final = Param("cursor", "query", "Where the last page ended (`next_cursor`).", {"type": "string"})
LIMIT: Final = Param("limit", "query", "Items per page.", {"type": "integer", "minimum": 1, "maximum": 100})
RUN_STATUS: Final = Param(
    "status", "query", "Only runs in this status.", {"type": "string", "enum": [status.value for status in RunStatus]}
)

STREAM: Final = {"text/event-stream": {"type": "string", "description": "Each `data:` line is a Frame."}}
RUN_HEADERS: Final = {
    "X-Run-Id": "The run.",
    "X-Correlation-Id": "The caller's correlation id, or a new one.",
    "Location": "Where the run can be read.",
}
BODY_ERRORS: Final = (errors.BadJson, errors.BadHeader, errors.TooLarge, errors.NotJson)
DECISION_ERRORS: Final = (
    errors.PromptNotFound,
    errors.RequesterExcluded,
    errors.NotAssigned,
    errors.ActionNotAllowed,
    errors.PromptSettled,
    errors.PromptClaimed,
    errors.PromptStale,
    errors.AlreadyVoted,
    errors.AnswerInvalid,
    errors.InvalidRunState,
)
STORE: Final = (errors.StoreUnavailable,)


def ok(name: str, description: str) -> tuple[Answer, ...]:
    """Return a plain 200 with a body of the named schema."""
    return (Answer(200, description, {"application/json": ref(name)}),)
