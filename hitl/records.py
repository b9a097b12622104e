"""What is written down when somebody, or a clock, does something to a prompt (H9): who, how, what they saw, why.

Every record is written in the transaction of what it records; ``hitl/chain.py`` seals it later.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.ids import AUDIT
from contracts.ports import Ids
from hitl.diff import diff
from hitl.policy import TIMER, TIMER_CHANNEL
from store.audit import AuditRow
from store.rows import DecisionRow, PromptRow

KEPT_BYTES: Final = 64 * 1024
"""A larger value is not repeated in the record: its SHA-256 stands for it (``…_sha256``)."""


def by_person(
    ids: Ids, principal: Principal, row: PromptRow, kind: str, at_ms: int, channel: str, **more: Any
) -> AuditRow:
    """Return the record of what a person did to a prompt (``prompt.claimed`` and the like)."""
    who = {"roles": sorted(principal.roles), "groups": sorted(principal.groups), "channel": channel}
    return _record(ids, row, kind, principal.subject, at_ms, {**who, **_about(row, at_ms), **more})


def by_clock(ids: Ids, row: PromptRow, kind: str, at_ms: int, **more: Any) -> AuditRow:
    """Return the record of what a prompt's clock did."""
    body = {"roles": [], "groups": [], "channel": TIMER_CHANNEL, **_about(row, at_ms), **more}
    return _record(ids, row, kind, TIMER, at_ms, body)


def of_vote(row: PromptRow, vote: DecisionRow) -> dict[str, Any]:
    """Return what a vote adds to its record: what was shown, what was answered, the difference, why."""
    said = {"decision_id": vote.decision_id, "action": vote.action, "comment": vote.comment, "settled": vote.winning}
    changes = None
    if vote.action == "edit" and vote.answer_json is not None:
        changes = _kept("changes", _dump(diff(orjson.loads(row.proposed_json), orjson.loads(vote.answer_json))))
    return {
        **said,
        **seen(row),
        **_kept("answer", None if vote.answer_json is None else vote.answer_json.encode()),
        **(changes or {"changes": None}),
    }


def seen(row: PromptRow) -> dict[str, Any]:
    """Return what a person who decides is shown."""
    return {
        "question": row.question,
        "bound_hash": row.bound_hash,
        "plan_version": row.plan_version,
        **_kept("proposed", row.proposed_json.encode()),
    }


def _about(row: PromptRow, at_ms: int) -> dict[str, Any]:
    return {
        "prompt_kind": row.kind,
        "node_id": row.node_id,
        "policy_id": row.policy_id,
        "quorum": row.quorum,
        "level": row.level,
        "waiting_ms": max(0, at_ms - row.created_at),
    }


def _kept(name: str, text: bytes | None) -> dict[str, Any]:
    """Return a value under its name, or null and its hash when it is too large to be repeated."""
    if text is None or len(text) <= KEPT_BYTES:
        return {name: None if text is None else orjson.loads(text)}
    return {name: None, f"{name}_sha256": sha256(text).hexdigest()}


def _dump(value: Any) -> bytes:
    return orjson.dumps(value)


def _record(ids: Ids, row: PromptRow, kind: str, actor: str, at_ms: int, body: Mapping[str, Any]) -> AuditRow:
    return AuditRow(
        record_id=ids.new(AUDIT),
        tenant=row.tenant,
        at=at_ms,
        kind=kind,
        actor=actor,
        run_id=row.run_id,
        prompt_id=row.prompt_id,
        body_json=orjson.dumps(body).decode(),
    )
