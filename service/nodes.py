"""A node as doors show it: what the plan says of it together with what has become of it (T3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from contracts.clock import rfc3339_or_none
from contracts.errors import BadQuery, ErrorItem
from contracts.lifecycle import NODE_TERMINAL, NodeStatus
from store.rows import NodeRow

Planned = Mapping[str, Any]
"""A node of the plan, as JSON."""


def node_item(node_id: str, planned: Planned | None, stored: NodeRow | None, now_ms: int) -> dict[str, Any]:
    """Return a node in a list; one that is only planned is ``pending`` and was never tried."""
    shown = planned or {}
    if stored is None:
        return {
            "node_id": node_id, "kind": shown.get("kind", ""), "capability_id": shown.get("capability_id"),
            "status": NodeStatus.PENDING.value, "attempt": 0, "generation": 0, "started_at": None, "ended_at": None,
            "duration_ms": None, "usage": {"tokens": 0, "cost": 0}, "error": None,
        }  # fmt: skip
    ended = stored.ended_at if NodeStatus(stored.status) in NODE_TERMINAL else None
    return {
        "node_id": node_id,
        "kind": stored.kind,
        "capability_id": shown.get("capability_id"),
        "status": stored.status,
        "attempt": stored.attempt,
        "generation": stored.generation,
        "started_at": rfc3339_or_none(stored.started_at),
        "ended_at": rfc3339_or_none(stored.ended_at),
        "duration_ms": _duration(stored.started_at, ended, now_ms),
        "usage": (_json(stored.state_json) or {}).get("spent", {"tokens": 0, "cost": 0}),
        "error": _json(stored.error_json),
    }


def node_detail(node_id: str, planned: Planned | None, stored: NodeRow | None, now_ms: int) -> dict[str, Any]:
    """Return a node with the inputs and output of its present attempt, and every attempt, oldest first."""
    item = node_item(node_id, planned, stored, now_ms)
    if stored is None:
        return {**item, "inputs": None, "output": None, "attempts": []}
    return {
        **item,
        "inputs": _json(stored.inputs_json),
        "output": _json(stored.output_json),
        "attempts": _attempts(stored),
    }


def _attempts(stored: NodeRow) -> list[dict[str, Any]]:
    """Return the earlier attempts and the present one, unless the last of the earlier ones is the present one."""
    earlier = [_attempt(entry) for entry in _json(stored.history_json) or []]
    told = {entry["attempt"] for entry in earlier}
    if stored.attempt == 0 or stored.attempt in told:
        return earlier
    present = {
        "attempt": stored.attempt,
        "status": stored.status,
        "started_at": rfc3339_or_none(stored.started_at),
        "ended_at": rfc3339_or_none(stored.ended_at),
    }
    error = _json(stored.error_json)
    return [*earlier, present | (error if isinstance(error, dict) else {})]


def _attempt(entry: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: rfc3339_or_none(entry.get(name)) for name in ("started_at", "ended_at")}
    return {"attempt": entry.get("attempt"), "status": NodeStatus.FAILED.value, **entry, **times}


def _duration(began: int | None, ended: int | None, now_ms: int) -> int | None:
    if began is None:
        return None
    return max(0, (now_ms if ended is None else ended) - began)


def _json(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def after_cursor(names: Sequence[str], cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
    """Return the names after the one that the cursor holds, and the next cursor; ``BadQuery`` for a foreign one."""
    start = 0
    if cursor is not None:
        try:
            name = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
            start = names.index(name) + 1
        except (binascii.Error, ValueError) as error:
            raise BadQuery(
                "cursor: it is not one of ours.", errors=[ErrorItem("/cursor", "bad_cursor", "Unknown.")]
            ) from error
    page = names[start : start + limit]
    if start + limit >= len(names):
        return page, None
    return page, base64.urlsafe_b64encode(page[-1].encode()).decode().rstrip("=")
