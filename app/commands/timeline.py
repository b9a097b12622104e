"""A run's frames as lines for people: pure, one frame in, lines out (wire §4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from app.commands.text import clean, compact, duration, line

Payload = Mapping[str, Any]
MAX_ERRORS: Final = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line: since the first frame (ms), a mark, a text and a rich style."""

    at_ms: int
    mark: str
    text: str
    style: str = ""


MARKS: Final = {
    "start": "●", "plan": "◆", "run": "▶", "done": "✔", "bad": "✘", "again": "↻", "skip": "↷", "ask": "?",
    "wait": "‖", "note": "·", "more": " ",
}  # fmt: skip
PLAIN_MARKS: Final = {
    "start": "*", "plan": "#", "run": ">", "done": "+", "bad": "x", "again": "~", "skip": "-", "ask": "?",
    "wait": "|", "note": ".", "more": " ",
}  # fmt: skip


@dataclass(slots=True)
class Timeline:
    """Turns frames into lines; keeps the time of the first frame and what is still open."""

    decide_hint: Callable[[Mapping[str, Any]], list[str]] | None = None
    began: datetime | None = None
    open_prompts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting_on: list[str] = field(default_factory=list)

    def lines(self, frame: Mapping[str, Any]) -> list[Line]:
        """Return the lines of a frame; none for types that are not known (wire §4: ignore unknown ones)."""
        kind, payload = frame["type"], frame.get("payload") or {}
        self._note(kind, payload)
        show = _SHOW.get(kind)
        if show is None:
            return []
        at = self._since(frame.get("timestamp"))
        node = clean(frame.get("node_id") or "")
        found = [Line(at, mark, text, style) for mark, text, style in show(node, payload)]
        if kind == "hitl_request" and self.decide_hint is not None:
            found += [Line(at, "more", text, "dim") for text in self.decide_hint(payload["prompt"])]
        return found

    def _note(self, kind: str, payload: Payload) -> None:
        if kind == "hitl_request":
            self.open_prompts[payload["prompt"]["prompt_id"]] = payload["prompt"]
        elif kind == "hitl_resolved":
            self.open_prompts.pop(payload["prompt_id"], None)
        elif kind == "run_waiting":
            self.waiting_on = list(payload["waiting_on"])
        elif kind == "run_resumed":
            self.waiting_on = []

    def _since(self, timestamp: Any) -> int:
        if not isinstance(timestamp, str):
            return 0
        moment = datetime.fromisoformat(timestamp)
        self.began = self.began or moment
        return max(0, round((moment - self.began).total_seconds() * 1_000))


Shown = Iterator[tuple[str, str, str]]


def _start(_node: str, payload: Payload) -> Shown:
    yield "start", line(payload["objective"]), "bold"


def _plan_requested(_node: str, payload: Payload) -> Shown:
    yield "note", f"planning, round {payload['round']} ({clean(payload['strategy'])})", "dim"


def _plan_rejected(_node: str, payload: Payload) -> Shown:
    yield "bad", f"no plan in round {payload['round']}", "red"
    yield from findings(payload["findings"])


def findings(found: Any) -> Shown:
    """Yield a line per finding, and one per remedy."""
    for item in list(found)[:MAX_ERRORS]:
        where = f" at {clean(item['pointer'])}" if item.get("pointer") else ""
        yield "more", f"{clean(item.get('code', ''))}{where}: {line(item.get('message', ''))}", "red"
        if item.get("fix"):
            yield "more", f"  try: {line(item['fix'])}", "yellow"
    if len(found) > MAX_ERRORS:
        yield "more", f"… and {len(found) - MAX_ERRORS} more", "dim"


def _plan_generated(_node: str, payload: Payload) -> Shown:
    plan = payload["plan"]
    names = [clean(node["node_id"]) for node in plan["nodes"]]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    yield "plan", f"plan {plan['plan_version']}: {len(names)} node{'' if len(names) == 1 else 's'}: {shown}", "cyan"


def _plan_updated(_node: str, payload: Payload) -> Shown:
    diff = payload["diff"]
    changes = ", ".join(f"{len(diff.get(name) or ())} {name}" for name in ("added", "removed", "changed"))
    yield "plan", f"plan {payload['plan']['plan_version']} by {clean(payload['author'])}: {changes}", "cyan"
    yield "more", line(payload["reason"]), "dim"


def _node_start(node: str, payload: Payload) -> Shown:
    what = clean(payload.get("capability_id") or payload["kind"])
    resumed = ", resumed" if payload["resumed"] else ""
    attempt = f", attempt {payload['attempt']}" if payload["attempt"] > 1 else ""
    yield "run", f"{node}  {what}{attempt}{resumed}", ""


def _node_retry(node: str, payload: Payload) -> Shown:
    text = f"{node}  attempt {payload['next_attempt']} in {duration(payload['delay_ms'])}: {line(payload['message'])}"
    yield "again", text, "yellow"


def _node_complete(node: str, payload: Payload) -> Shown:
    yield "done", f"{node}  {duration(payload['duration_ms'])}", "green"


def _node_error(node: str, payload: Payload) -> Shown:
    yield (
        "bad",
        f"{node}  {line(payload['message'])} ({clean(payload['code'])}; then: {clean(payload['fallback'])})",
        "red",
    )


def _tool_calls(node: str, payload: Payload) -> Shown:
    names = ", ".join(str(call.get("name")) for call in payload["calls"])
    yield "run", f"{node}  asks for {line(names)}", ""


def _node_skipped(node: str, payload: Payload) -> Shown:
    yield "skip", f"{node}  skipped: {line(payload['reason'])}", "dim"


def _hitl_request(node: str, payload: Payload) -> Shown:
    prompt = payload["prompt"]
    yield "ask", f"{node}  {line(prompt['question'])}", "bold magenta"
    due = f", due {prompt['due_at']}" if prompt.get("due_at") else ""
    people = f", {prompt['quorum']} people" if prompt.get("quorum", 1) > 1 else ""
    yield "more", f"{clean(prompt['prompt_id'])}: {clean(', '.join(prompt['actions']))}{people}{due}", "magenta"


def _hitl_resolved(node: str, payload: Payload) -> Shown:
    decision = payload.get("decision")
    if decision is None:
        yield "ask", f"{node}  {clean(payload['status'])} without a decision", "yellow"
        return
    yield "ask", f"{node}  {clean(decision['action'])} by {clean(decision['decided_by'])}", "magenta"
    if decision.get("comment"):
        yield "more", line(decision["comment"]), "dim"


def _run_waiting(_node: str, payload: Payload) -> Shown:
    until = f" until {payload['wake_at']}" if payload.get("wake_at") else ""
    names = {"hitl": "people"}
    yield (
        "wait",
        f"waiting for {', '.join(names.get(name, clean(name)) for name in payload['waiting_on'])}{until}",
        "dim",
    )


def _run_resumed(_node: str, payload: Payload) -> Shown:
    yield "note", f"goes on ({clean(payload['cause'])})", "dim"


def _policy(_node: str, payload: Payload) -> Shown:
    yield (
        "note",
        f"policy {clean(payload['policy_id'])}: {clean(payload['trigger'])} → {clean(payload['action'])}",
        "yellow",
    )


def _validation_error(node: str, payload: Payload) -> Shown:
    subject = node if payload["scope"] == "node_output" else "the answer"
    yield "bad", f"{subject}  does not fit its contract", "yellow"
    for item in payload["errors"][:MAX_ERRORS]:
        yield "more", f"{clean(item.get('pointer') or 'the whole')}: {line(item.get('message', ''))}", "yellow"


def _log(node: str, payload: Payload) -> Shown:
    style = {"warning": "yellow", "error": "red"}.get(payload["level"], "dim")
    yield "note", f"{node}  {line(payload['message'])}".strip(), style


def _complete(_node: str, payload: Payload) -> Shown:
    usage = payload.get("usage") or {}
    waited = f", waited {duration(payload['waited_ms'])}" if payload.get("waited_ms") else ""
    cost = f", cost {usage['cost']:g}" if usage.get("cost") else ""
    tokens = f", {usage['tokens']} tokens" if usage.get("tokens") else ""
    yield "done", f"complete in {duration(payload['duration_ms'])}{waited}{tokens}{cost}", "bold green"


def _failed(_node: str, payload: Payload) -> Shown:
    where = f" at {clean(payload['failed_node_id'])}" if payload.get("failed_node_id") else ""
    yield "bad", f"failed{where}: {line(payload['message'])} ({clean(payload['code'])})", "bold red"
    if payload["code"] == "no_plan":
        return  # plan_rejected has shown them
    for item in payload.get("errors", ())[:MAX_ERRORS]:
        text = (
            f"{item.get('pointer') or 'the whole'}: {item.get('message', '')}"
            if isinstance(item, Mapping)
            else compact(item)
        )
        yield "more", line(text), "red"


def _cancelled(_node: str, payload: Payload) -> Shown:
    reason = f": {line(payload['reason'])}" if payload.get("reason") else ""
    yield "bad", f"cancelled by {clean(payload['by'])}{reason}", "bold yellow"


def _stream_end(_node: str, payload: Payload) -> Shown:
    yield "note", f"the stream ended early ({clean(payload['reason'])}); the run goes on", "yellow"


_SHOW: Final[Mapping[str, Callable[[str, Payload], Shown]]] = {
    "start": _start, "plan_requested": _plan_requested, "plan_rejected": _plan_rejected,
    "plan_generated": _plan_generated, "plan_updated": _plan_updated, "node_start": _node_start,
    "node_retry": _node_retry, "node_complete": _node_complete, "node_error": _node_error,
    "tool_calls": _tool_calls, "node_skipped": _node_skipped,
    "hitl_request": _hitl_request, "hitl_resolved": _hitl_resolved,
    "run_waiting": _run_waiting, "run_resumed": _run_resumed, "policy_triggered": _policy,
    "validation_error": _validation_error, "log": _log, "stream_end": _stream_end, "complete": _complete,
    "failed": _failed, "cancelled": _cancelled,
}  # fmt: skip
