"""What must hold whatever died when: log, what callers saw, rows, and what was really called (F9, F10, H1, H4)."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from contracts.lifecycle import NODE_TERMINAL

TERMINAL = ("complete", "failed", "cancelled")
STATUS_OF = {"complete": "completed", "failed": "failed", "cancelled": "cancelled"}
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Effect:
    """One line that a capability left: it began or ended a call."""

    what: str
    run_id: str
    node_id: str
    attempt: int
    key: str
    pid: int
    at: float = 0.0
    """wall time, ms"""


def effects_in(path: Path) -> list[Effect]:
    """Read the file of effects; a line that a killed process left half is none."""
    text = path.read_text() if path.exists() else ""
    return [Effect(**json.loads(line)) for line in text.split("\n")[:-1]]


@dataclass
class Stored:
    """The rows of one run at one moment, read past the service."""

    log: dict[int, bytes]
    status: str = ""
    worker: str | None = None
    last_seq: int = 0
    nodes: dict[str, str] = field(default_factory=dict)
    open_prompts: int = 0
    pending_signals: int = 0
    effects: list[Effect] = field(default_factory=list)

    @property
    def completed(self) -> set[str]:
        return {node_id for node_id, status in self.nodes.items() if status == "completed"}


async def query(url: str, sql: str) -> list[Row]:
    """Run a statement past the service, on either database; return its rows."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database or "", timeout=10)) as file:
            rows = file.execute(sql).fetchall()
            file.commit()
            return rows
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def stored(url: str, run_id: str, effects: Path) -> Stored:
    """Take a picture of one run; an unknown one has an empty log."""
    log = await query(url, f"SELECT seq, data FROM events WHERE run_id = '{run_id}' ORDER BY seq")
    found = Stored({seq: bytes(data) for seq, data in log})
    where = f"run_id = '{run_id}'"
    for status, worker, last_seq in await query(url, f"SELECT status, worker, last_seq FROM runs WHERE {where}"):
        found.status, found.worker, found.last_seq = status, worker, last_seq
    found.nodes = {row[0]: row[1] for row in await query(url, f"SELECT node_id, status FROM nodes WHERE {where}")}
    found.open_prompts = (await query(url, f"SELECT count(*) FROM prompts WHERE {where} AND status = 'open'"))[0][0]
    found.pending_signals = (await query(url, f"SELECT count(*) FROM signals WHERE {where} AND outcome IS NULL"))[0][0]
    found.effects = [effect for effect in effects_in(effects) if effect.run_id == run_id]
    return found


async def all_stored(url: str, effects: Path) -> dict[str, Stored]:
    """Take a picture of every run that there is."""
    found: dict[str, Stored] = {}
    for run_id, status, worker, last_seq in await query(url, "SELECT run_id, status, worker, last_seq FROM runs"):
        found[run_id] = Stored({}, status, worker, last_seq)
    for run_id, seq, data in await query(url, "SELECT run_id, seq, data FROM events ORDER BY run_id, seq"):
        found.setdefault(run_id, Stored({})).log[seq] = bytes(data)
    for run_id, node_id, status in await query(url, "SELECT run_id, node_id, status FROM nodes"):
        found.setdefault(run_id, Stored({})).nodes[node_id] = status
    for (run_id,) in await query(url, "SELECT run_id FROM prompts WHERE status = 'open'"):
        found.setdefault(run_id, Stored({})).open_prompts += 1
    for (run_id,) in await query(url, "SELECT run_id FROM signals WHERE outcome IS NULL"):
        found.setdefault(run_id, Stored({})).pending_signals += 1
    for effect in effects_in(effects):
        found.setdefault(effect.run_id, Stored({})).effects.append(effect)
    return found


def audit(
    end: Stored,
    *,
    seen: Mapping[int, bytes],
    before: Sequence[Stored] = (),
    answers: Mapping[str, str] | None = None,
    once: Iterable[str] = (),
) -> list[str]:
    """Return everything that is wrong with an ended run; an empty list when it is sound.

    ``seen`` is what callers got over all connections, ``before`` are pictures taken right after each crash,
    ``answers`` what people said (prompt → action), ``once`` the nodes whose effect must not be repeated.
    """
    return [
        *_log(end),
        *_end(end),
        *_seen(end, seen),
        *(fault for picture in before for fault in _unchanged(end, picture)),
        *_nodes(end),
        *_prompts(end, answers or {}),
        *_calls(end, frozenset(once)),
        *_rows(end),
    ]


def audit_waiting(rest: Stored, *, answers: Mapping[str, str] | None = None, once: Iterable[str] = ()) -> list[str]:
    """Return everything that is wrong with a run that waits for people and was left alone (H1)."""
    faults = [*_log(rest), *_nodes(rest), *_prompts(rest, answers or {}), *_calls(rest, frozenset(once))]
    last = _read(rest)[-1:]
    if [frame["type"] for frame in last] != ["run_waiting"]:
        faults.append(f"the run waits, its last frame is {[frame['type'] for frame in last]}")
    if not rest.open_prompts:
        faults.append("the run waits and nothing is asked")
    if rest.worker is not None:
        faults.append(f"the run waits and is held by {rest.worker}")
    faults += [f"{node_id} runs while the run waits" for node_id, status in rest.nodes.items() if status == "running"]
    return faults


def _read(picture: Stored) -> list[dict[str, Any]]:
    return [json.loads(picture.log[seq]) for seq in sorted(picture.log)]


def _log(end: Stored) -> list[str]:
    """The log has no gap, and what it says alternates as it must."""
    faults = []
    if sorted(end.log) != list(range(1, len(end.log) + 1)):
        faults.append(f"the log has the numbers {sorted(end.log)}")
    if end.last_seq != len(end.log):
        faults.append(f"the run's last_seq is {end.last_seq}, its log has {len(end.log)} frames")
    frames = _read(end)
    if any(frame["id"] != seq for seq, frame in zip(sorted(end.log), frames, strict=True)):
        faults.append("a frame carries another id than its row")
    moves = [(frame["type"], frame["payload"]) for frame in frames if frame["type"] in ("run_waiting", "run_resumed")]
    # A wait that goes on is said again when its set changed; two resumes without a wait between them are wrong.
    same = [one for one, other in pairwise(moves) if one == other or one[0] == other[0] == "run_resumed"]
    if same or [kind for kind, _ in moves[:1]] == ["run_resumed"]:
        faults.append(f"waits and resumes do not alternate: {moves}")
    return faults


def _end(end: Stored) -> list[str]:
    """Exactly one terminal frame, the last one, that says what the row says (F7)."""
    kinds = [frame["type"] for frame in _read(end)]
    ends = [kind for kind in kinds if kind in TERMINAL]
    if len(ends) != 1 or kinds[-1:] != ends:
        return [f"terminal frames {ends}, the last frame is {kinds[-1:]}"]
    if end.status != STATUS_OF[ends[0]]:
        return [f"the run is {end.status}, its last frame is {ends[0]}"]
    return []


def _seen(end: Stored, seen: Mapping[int, bytes]) -> list[str]:
    """What a caller saw never un-happens."""
    wrong = {seq: data for seq, data in seen.items() if end.log.get(seq) != data}
    return [f"frame {seq} was seen as {data[:80]!r} and is not so" for seq, data in wrong.items()]


def _unchanged(end: Stored, picture: Stored) -> list[str]:
    """Nothing that was committed changes, and what was completed is not called again."""
    faults = [f"frame {seq} changed after a crash" for seq, data in picture.log.items() if end.log.get(seq) != data]
    if end.effects[: len(picture.effects)] != picture.effects:
        faults.append("lines of effects vanished")
    again = {effect.node_id for effect in end.effects[len(picture.effects) :]} & picture.completed
    faults += [f"{node_id} had completed and was called again" for node_id in sorted(again)]
    faults += [
        f"{node_id} was {status} and is {end.nodes.get(node_id)}"
        for node_id, status in picture.nodes.items()
        if status in ("completed", "failed", "skipped") and end.nodes.get(node_id) != status
    ]
    return faults


def _nodes(end: Stored) -> list[str]:
    """Frames of a node: it starts before it ends, and ends once."""
    faults = []
    last: dict[str, str] = {}
    for frame in _read(end):
        node_id, kind = frame["node_id"], frame["type"]
        if node_id is None or not kind.startswith("node_"):
            continue
        if last.get(node_id) == "node_complete":
            faults.append(f"{node_id}: {kind} after node_complete")
        if kind == "node_complete" and node_id not in last:
            faults.append(f"{node_id}: node_complete without node_start")
        last[node_id] = kind
    for node_id, kind in last.items():
        if (kind == "node_complete") != (end.nodes.get(node_id) == "completed"):
            faults.append(f"{node_id} is {end.nodes.get(node_id)}, its last frame is {kind}")
    return faults


def _prompts(end: Stored, answers: Mapping[str, str]) -> list[str]:
    """Asked once, resolved once, with the very answer that was accepted (H4)."""
    frames = _read(end)
    asked = Counter(frame["payload"]["prompt"]["prompt_id"] for frame in frames if frame["type"] == "hitl_request")
    resolved = [frame["payload"] for frame in frames if frame["type"] == "hitl_resolved"]
    told = Counter(payload["prompt_id"] for payload in resolved)
    faults = [f"{prompt_id} was asked {count} times" for prompt_id, count in asked.items() if count > 1]
    faults += [f"{prompt_id} was resolved {count} times" for prompt_id, count in told.items() if count > 1]
    faults += [f"{prompt_id} was resolved and never asked" for prompt_id in told if prompt_id not in asked]
    for payload in resolved:
        action = (payload["decision"] or {}).get("action")
        if payload["prompt_id"] in answers and action != answers[payload["prompt_id"]]:
            faults.append(f"{payload['prompt_id']}: {action} instead of {answers[payload['prompt_id']]}")
    return faults


def _calls(end: Stored, once: frozenset[str]) -> list[str]:
    """A completed step was really called; a ``once`` step never twice under one key; keys only change on purpose."""
    begun = Counter((effect.node_id, effect.key) for effect in end.effects if effect.what == "begin")
    often = {node_id: count for (node_id, _), count in begun.items() if node_id in once and count > 1}
    faults = [f"{node_id} was called {count} times" for node_id, count in often.items()]
    keys: dict[str, set[str]] = {}
    for node_id, key in begun:
        keys.setdefault(node_id, set()).add(key)
    changed = {node_id: found for node_id, found in keys.items() if len(found) > 1 and node_id not in once}
    faults += [f"{node_id} has the keys {sorted(found)}" for node_id, found in changed.items()]
    starts = [frame for frame in _read(end) if frame["type"] == "node_start"]
    calls = {frame["node_id"] for frame in starts if frame["payload"]["kind"] == "call"}
    faults += [f"{node_id} completed and was never called" for node_id in (calls & end.completed) - set(keys)]
    return faults


def _rows(end: Stored) -> list[str]:
    """An ended run owns nothing and owes nothing."""
    faults = []
    if end.worker is not None:
        faults.append(f"the ended run belongs to {end.worker}")
    if end.open_prompts:
        faults.append(f"{end.open_prompts} prompts are open after the end")
    if end.pending_signals:
        faults.append(f"{end.pending_signals} signals were never answered")
    left = [node_id for node_id, status in end.nodes.items() if status not in NODE_TERMINAL]
    return faults + [f"{node_id} never ended" for node_id in left]
