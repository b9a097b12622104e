"""From stored rows to what stands on the wire (wire §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from contracts.answers import DecisionForm
from contracts.clock import rfc3339, rfc3339_or_none
from contracts.prompts import Assignees, Decision, Prompt, PromptPolicy, Vote
from store.rows import DecisionRow, PromptRow


def form_of(row: PromptRow) -> DecisionForm:
    """Return what a stored prompt takes as a decision."""
    return DecisionForm(row.kind, tuple(orjson.loads(row.actions_json)), orjson.loads(row.answer_schema_json))


def policy_of(row: PromptRow) -> PromptPolicy:
    """Return the policy that was frozen when the prompt was raised.

    Who is asked, the quorum, the due time and what it does stand in the row's own columns, since an escalation moves
    them; of the policy only the rest is read.
    """
    return PromptPolicy.model_validate_json(row.policy_json)


def to_prompt(row: PromptRow, votes: Sequence[DecisionRow] = ()) -> Prompt:
    """Return the prompt as it stands on the wire; ``votes`` in the order they were cast."""
    policy = policy_of(row)
    return Prompt(
        prompt_id=row.prompt_id,
        run_id=row.run_id,
        node_id=row.node_id,
        kind=row.kind,
        status=row.status,
        question=row.question,
        proposed=orjson.loads(row.proposed_json),
        answer_schema=orjson.loads(row.answer_schema_json),
        actions=orjson.loads(row.actions_json),
        assignees=Assignees.model_validate_json(row.assignees_json).model_dump(),
        claimed_by=row.claimed_by,
        quorum=row.quorum,
        votes=[Vote(vote.decided_by, vote.action, rfc3339(vote.decided_at)) for vote in votes],
        plan_version=row.plan_version,
        bound_hash=row.bound_hash,
        created_at=rfc3339(row.created_at),
        due_at=rfc3339_or_none(row.due_at),
        on_timeout=row.on_timeout,
        links={"decide": f"/api/v1/prompts/{row.prompt_id}/decisions"},
        veto=policy.veto,
        exclude_requester=policy.exclude_requester,
        level=row.level,
        delegations=[
            {name: each[name] for name in ("from", "to", "at")} for each in orjson.loads(row.delegations_json)
        ],
    )


def to_decision(row: DecisionRow) -> Decision:
    """Return the decision as it stands on the wire."""
    return Decision(
        decision_id=row.decision_id,
        action=row.action,
        answer=None if row.answer_json is None else orjson.loads(row.answer_json),
        comment=row.comment,
        decided_by=row.decided_by,
        decided_at=rfc3339(row.decided_at),
        channel=row.channel,
    )


def wire(prompt: Prompt) -> dict[str, Any]:
    """Return the prompt as plain JSON values, with the JSON Schema of what may be posted to decide it.

    Frames carry the prompt without ``decision_schema``: they are stored for ever, and it repeats the form.
    """
    form = DecisionForm(prompt.kind, tuple(prompt.actions), prompt.answer_schema)
    return {**asdict(prompt), "decision_schema": form.schema()}
