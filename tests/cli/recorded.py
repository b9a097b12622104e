"""Frames as the service encodes them, for tests of what is shown."""

from collections.abc import Mapping
from typing import Any

import orjson

from contracts import events as e
from contracts.clock import rfc3339

START_MS = 1_767_603_600_000
PLAN = {
    "plan_version": 1,
    "plan_hash": "0123456789abcdef",
    "strategy": "search",
    "nodes": [
        {
            "node_id": "groups",
            "kind": "call",
            "capability_id": "records.group",
            "inputs": {"log": {"from": "/inputs/log_text"}},
        },
        {
            "node_id": "notes",
            "kind": "call",
            "capability_id": "notes.write",
            "inputs": {"groups": {"node_id": "groups", "pointer": ""}, "count": {"value": 2}},
            "rationale": ["alias of /variants; only producer"],
        },
        {"node_id": "sign_off", "kind": "ask", "policy_id": "sign_off", "guards": "output"},
    ],
    "edges": [
        {"from": "groups", "to": "notes", "condition": None},
        {"from": "notes", "to": "sign_off", "condition": None},
        {"from": "groups", "to": "sign_off", "condition": None},
    ],
    "output": {"mode": "map", "map": {"/variants": {"node_id": "notes", "pointer": ""}}},
    "goals": [
        {"pointer": "/variants", "facet": "copy_variants", "verdict": "may", "unproved": ["/items/minLength"]},
        {"pointer": "/title", "facet": "headline", "verdict": "fits", "unproved": []},
    ],
    "unused_inputs": ["/inputs/goal"],
    "estimate": {"cost": 0.5, "tokens": 120, "latency_ms": 1200},
    "findings": [],
}
PROMPT: dict[str, Any] = {
    "prompt_id": "prm_01",
    "run_id": "run_01",
    "node_id": "sign_off",
    "kind": "approval",
    "status": "open",
    "question": "Publish these?",
    "proposed": {"variants": []},
    "answer_schema": {"type": "object"},
    "actions": ["approve", "edit", "reject"],
    "assignees": {"users": [], "roles": ["operator"], "groups": []},
    "claimed_by": None,
    "quorum": 1,
    "votes": [],
    "plan_version": 1,
    "bound_hash": "h",
    "created_at": rfc3339(START_MS),
    "due_at": None,
    "on_timeout": "wait",
    "links": {"decide": "/api/v1/prompts/prm_01/decisions"},
}
DECISION = {
    "decision_id": "dec_01", "action": "approve", "answer": None, "comment": "fine", "decided_by": "user:ana",
    "decided_at": rfc3339(START_MS), "channel": "http",
}  # fmt: skip
FINDING = {
    "layer": "capability", "code": "missing_facet", "severity": "error", "message": "company_profile is missing.",
    "pointer": "/variants", "fix": "Give a bundle company_profile.",
}  # fmt: skip


def frame(event: e.Event, seq: int | None, *, at_ms: int = 0, node_id: str | None = None) -> Mapping[str, Any]:
    """The event as a client reads it."""
    data = e.encode(event, seq=seq, at_ms=START_MS + at_ms, run_id="run_01", correlation_id="cid", node_id=node_id)
    return dict(orjson.loads(data))


EVERY: list[tuple[e.Event, str | None]] = [
    (e.Start("Two posts", "c", {"events": "/x"}), None),
    (e.PlanRequested(1, "search"), None),
    (e.PlanRejected(1, [FINDING]), None),
    (e.PlanGenerated(PLAN), None),
    (e.PlanUpdated(PLAN, 1, {"added": ["x"], "removed": [], "changed": []}, "user:ana", "shorter"), None),
    (e.NodeStart(2, "call", "notes.write", True), "notes"),
    (e.NodeDelta(2, 0, "more"), "notes"),
    (e.NodeRetry(1, 2, 200, "output_invalid", "too short"), "notes"),
    (e.NodeComplete(2, 1234, []), "notes"),
    (e.NodeError(3, "capability_timeout", "no answer", "abort"), "notes"),
    (
        e.ToolCalls(
            1,
            "Let me see.",
            [{"call_id": "c1", "name": "find", "arguments": "{}", "node_id": "notes[0]", "error": None}],
        ),
        "notes",
    ),
    (e.NodeSkipped("condition_false"), "notes"),
    (e.HitlRequest(PROMPT), "sign_off"),
    (e.HitlResolved("prm_01", "settled", DECISION), "sign_off"),
    (e.RunWaiting(["hitl", "timer"], ["prm_01"], rfc3339(START_MS)), None),
    (e.RunResumed("decision"), None),
    (e.PolicyTriggered("again", "manual", "replan"), None),
    (
        e.ValidationFailed("node_output", 1, [{"pointer": "/0/body", "keyword": "minLength", "message": "too short"}]),
        "notes",
    ),
    (e.Log("warning", "careful"), "notes"),
    (e.StreamEnd("draining"), None),
    (e.Complete({"variants": []}, 900, 60_000, {"tokens": 7, "cost": 0.1}), None),
    (e.Failed("node_failed", "notes failed", "notes", [{"pointer": "/a", "message": "bad"}], True), None),
    (e.Cancelled("user:ana", "changed my mind"), None),
]
