"""Reading runs: detail, list, plan, nodes with their attempts, artifacts (F10, T3; wire §5).

Everything is read with the caller's tenant; what belongs to another one is not found.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.clock import rfc3339, rfc3339_or_none
from contracts.errors import NotFound
from contracts.events import Complete, Failed, Log
from contracts.lifecycle import RUN_TERMINAL, NodeStatus, RunStatus
from contracts.ports import Clock
from engine.addresses import Addresses
from engine.kinds import BY_NAME
from hitl.render import to_prompt, wire
from service.gone import gone_or_missing
from service.nodes import after_cursor, node_detail, node_item
from service.rights import may_control
from service.supplies import pending
from store import prompts
from store.connect import Database
from store.events import events_after
from store.lineage import children_of, forks_of
from store.rows import NodeRow, RunRow
from store.runs import envelope, node_row, node_rows, plan_row, run_page, run_row

EVENTS: Final = 1_000
"""Events that are read at once."""
MOST_OUTPUT: Final = 64 * 1024
"""Bytes of an output that is shown among others, as in frames."""


class Reads:
    """The use cases of reading runs."""

    def __init__(self, database: Database, clock: Clock, addresses: Addresses | None = None) -> None:
        """Take the database; the clock is for durations of what goes on, the addresses for nodes that are called."""
        self._database, self._clock = database, clock
        self._addresses = addresses or Addresses()

    async def run(self, principal: Principal, run_id: str) -> dict[str, Any]:
        """Return a run as it stands. Raises ``RunNotFound``, ``RunPruned`` (as everything here does).

        ``output`` and ``error`` are those of its terminal frame. ``duration_ms`` is time spent working, ``waited_ms``
        time spent waiting; null before it started.
        """
        row = await self._row(principal, run_id)
        output, error = await self._end(principal, row)
        waiting = [] if _ended(row) else await self._waiting(principal, run_id)
        return {
            **run_item(row),
            "open_prompts": waiting,
            "paused": _paused(row),
            "pending_docs": pending(orjson.loads(row.ledger_json)),
            "lineage": await self._lineage(row),
            "root_run_id": row.root_run_id or row.run_id,
            "output": output,
            "error": error,
            **self._account(row),
        }

    async def page(self, principal: Principal, *, status: str | None, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}``, newest first. Raises ``BadQuery`` for a foreign cursor."""
        wanted = None if status is None else RunStatus(status)
        page = await run_page(self._database, principal.tenant, limit=limit, cursor=cursor, status=wanted)
        return {"items": [run_item(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def plan(self, principal: Principal, run_id: str, version: int | None) -> bytes:
        """Return a version of the plan as JSON bytes, the present one without ``version``. Raises ``NotFound``."""
        row = await plan_row(self._database, principal.tenant, run_id, version)
        if row is None:
            await self._row(principal, run_id)
            raise NotFound("The run has no plan." if version is None else f"The run's plan has no version {version}.")
        return row.plan_json.encode()

    async def nodes(self, principal: Principal, run_id: str, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return a page of nodes: those of the plan in its order, then what they unfolded into.

        Raises ``RunNotFound``, ``BadQuery``.
        """
        planned, stored = await self._nodes(principal, run_id)
        names = [*planned, *sorted(stored.keys() - planned.keys(), key=_natural)]
        rest, next_cursor = after_cursor(names, cursor, limit)
        items = [node_item(name, planned.get(name), stored.get(name), self._clock.now_ms()) for name in rest]
        return {"items": items, "next_cursor": next_cursor}

    async def node(self, principal: Principal, run_id: str, node_id: str) -> dict[str, Any]:
        """Return one node with its inputs, output and attempts. Raises ``RunNotFound``, ``NotFound``."""
        stored = await node_row(self._database, principal.tenant, run_id, node_id)
        planned = await self._planned(principal, run_id)
        if stored is None and node_id not in planned:
            await self._row(principal, run_id)
            raise NotFound("There is no such node.")
        detail = node_detail(node_id, planned.get(node_id), stored, self._clock.now_ms())
        return detail | {"callback_url": await self._callback_url(principal, run_id, stored)}

    async def _callback_url(self, principal: Principal, run_id: str, stored: NodeRow | None) -> str | None:
        """Return where a node that waits for it is called back; None for callers who may not control the run (J6)."""
        if stored is None or stored.status != NodeStatus.WAITING or not BY_NAME[stored.kind].spec.called_back:
            return None
        row = await self._row(principal, run_id)
        if not may_control(principal, row.principal):
            return None
        return self._addresses.callback(principal.tenant, run_id, stored.node_id)

    async def artifacts(self, principal: Principal, run_id: str, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return a page of the stored outputs, in the order of the nodes. Raises ``RunNotFound``, ``BadQuery``."""
        planned, stored = await self._nodes(principal, run_id)
        names = [*planned, *sorted(stored.keys() - planned.keys(), key=_natural)]
        have = [name for name in names if name in stored and _has_output(stored[name])]
        rest, next_cursor = after_cursor(have, cursor, limit)
        return {"items": [_artifact(run_id, stored[name]) for name in rest], "next_cursor": next_cursor}

    async def artifact(self, principal: Principal, run_id: str, node_id: str) -> bytes:
        """Return a node's output as JSON bytes. Raises ``RunNotFound``; ``NotFound`` while there is none."""
        stored = await node_row(self._database, principal.tenant, run_id, node_id)
        if stored is None or not _has_output(stored) or stored.output_json is None:
            await self._row(principal, run_id)
            raise NotFound("This node has no output.")
        return stored.output_json.encode()

    async def attempts(self, principal: Principal, run_id: str, most: int) -> list[dict[str, Any]]:
        """Return up to ``most`` nodes with inputs, outputs and attempts, in the order of :meth:`nodes` (T3).

        An output over 64 KiB is null with an ``artifact_url``; a node that was never tried says so. Raises
        ``RunNotFound``.
        """
        planned, stored = await self._nodes(principal, run_id)
        names = [*planned, *sorted(stored.keys() - planned.keys(), key=_natural)][:most]
        now_ms = self._clock.now_ms()
        return [_shown(run_id, node_detail(name, planned.get(name), stored.get(name), now_ms)) for name in names]

    async def logs(self, principal: Principal, run_id: str, most: int) -> list[dict[str, Any]]:
        """Return the first ``most`` frames of what the run and its capabilities logged."""
        found: list[dict[str, Any]] = []
        after = 0
        while len(found) < most:
            rows = await events_after(self._database, principal.tenant, run_id, after, EVENTS)
            found += [orjson.loads(row.data) for row in rows if row.type == Log.type]
            if len(rows) < EVENTS:
                break
            after = rows[-1].seq
        return found[:most]

    async def end(self, principal: Principal, run_id: str) -> tuple[Any, dict[str, Any] | None]:
        """Return output and error of a run's terminal frame; both null before. Raises ``RunNotFound``."""
        return await self._end(principal, await self._row(principal, run_id))

    async def envelope_json(self, principal: Principal, run_id: str) -> str:
        """Return what the run was asked for. Raises ``RunNotFound``."""
        found = await envelope(self._database, principal.tenant, run_id)
        if found is None:
            raise await gone_or_missing(self._database, principal.tenant, run_id)
        return found

    async def _row(self, principal: Principal, run_id: str) -> RunRow:
        row = await run_row(self._database, principal.tenant, run_id)
        if row is None:
            raise await gone_or_missing(self._database, principal.tenant, run_id)
        return row

    async def _waiting(self, principal: Principal, run_id: str) -> list[dict[str, Any]]:
        shown = []
        for row in await prompts.open_of_run(self._database, principal.tenant, run_id):
            # With a quorum of one the first vote settles: an open prompt has none.
            votes = await prompts.votes_of(self._database, principal.tenant, row.prompt_id) if row.quorum > 1 else []
            shown.append(wire(to_prompt(row, votes)))
        return shown

    async def _lineage(self, row: RunRow) -> dict[str, Any]:
        """Return where the run comes from and what came of it, at most 100 children and forks, oldest first."""
        children = await children_of(self._database, row.tenant, row.run_id)
        forks = await forks_of(self._database, row.tenant, row.run_id)
        return {
            "parent": _place(row.parent_run_id, row.parent_node_id),
            "children": [asdict(child) for child in children],
            "forked_from": _place(row.origin_run_id, row.origin_node_id),
            "forks": [asdict(fork) for fork in forks],
        }

    async def _end(self, principal: Principal, row: RunRow) -> tuple[Any, dict[str, Any] | None]:
        """Return output and error of the terminal frame; both null before."""
        if not _ended(row):
            return None, None
        frames = await events_after(self._database, principal.tenant, row.run_id, row.last_seq - 1, 1)
        if not frames:
            return None, None
        payload = orjson.loads(frames[0].data)["payload"]
        if frames[0].type == Complete.type:
            return payload["output"], None
        return None, payload if frames[0].type == Failed.type else {"code": "cancelled", **payload}

    def _account(self, row: RunRow) -> dict[str, Any]:
        ledger = orjson.loads(row.ledger_json)
        now = row.ended_at if row.ended_at is not None else self._clock.now_ms()
        waited = int(ledger.get("waited_ms", 0))
        if row.ended_at is None and ledger.get("waiting_since") is not None:
            waited += max(0, now - int(ledger["waiting_since"]))
        # Before a scheduled start a run waits: that is part of its account, as its deadline and its last frame see it.
        began = row.created_at if row.start_at is not None or ledger.get("lacked") else row.started_at
        return {
            "usage": {"tokens": ledger.get("tokens", 0), "cost": ledger.get("cost", 0)},
            "duration_ms": None if began is None else max(0, now - began - waited),
            "waited_ms": None if began is None else waited,
        }

    async def _planned(self, principal: Principal, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the plan's nodes by id, in its order."""
        row = await plan_row(self._database, principal.tenant, run_id)
        if row is None:
            return {}
        return {node["node_id"]: node for node in orjson.loads(row.plan_json)["nodes"]}

    async def _nodes(self, principal: Principal, run_id: str) -> tuple[dict[str, dict[str, Any]], dict[str, NodeRow]]:
        await self._row(principal, run_id)
        planned = await self._planned(principal, run_id)
        return planned, {row.node_id: row for row in await node_rows(self._database, principal.tenant, run_id)}


def run_links(run_id: str) -> dict[str, str]:
    """Return where a run's parts are."""
    base = f"/api/v1/runs/{run_id}"
    return {
        "self": base,
        "events": f"{base}/events",
        "plan": f"{base}/plan",
        "nodes": f"{base}/nodes",
        "artifacts": f"{base}/artifacts",
        "cancel": f"{base}/cancel",
        "pause": f"{base}/pause",
        "resume": f"{base}/resume",
    }


def run_item(row: RunRow) -> dict[str, Any]:
    """Return a run as it stands in a list."""
    return {
        "run_id": row.run_id,
        "status": row.status,
        "waiting_on": orjson.loads(row.waiting_on_json),
        "objective": row.objective,
        "plan_version": row.plan_version,
        "last_event_id": row.last_seq,
        "correlation_id": row.correlation_id,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339_or_none(row.started_at),
        "ended_at": rfc3339_or_none(row.ended_at),
        "links": run_links(row.run_id),
    }


def _place(run_id: str | None, node_id: str | None) -> dict[str, str | None] | None:
    return None if run_id is None else {"run_id": run_id, "node_id": node_id}


def _paused(row: RunRow) -> dict[str, Any] | None:
    """Return who paused the run, why and when; None while it is not paused, and after its end."""
    paused = orjson.loads(row.ledger_json).get("paused")
    return None if paused is None or _ended(row) else paused | {"at": rfc3339(paused["at"])}


def _ended(row: RunRow) -> bool:
    return RunStatus(row.status) in RUN_TERMINAL


def _has_output(row: NodeRow) -> bool:
    return row.output_json is not None and row.status == NodeStatus.COMPLETED


def _shown(run_id: str, node: dict[str, Any]) -> dict[str, Any]:
    """Return a node whose output is not too long to be shown among others."""
    if len(orjson.dumps(node["output"])) <= MOST_OUTPUT:
        return {**node, "artifact_url": None}
    return {**node, "output": None, "artifact_url": f"/api/v1/runs/{run_id}/artifacts/{node['node_id']}"}


def _artifact(run_id: str, row: NodeRow) -> dict[str, Any]:
    return {
        "node_id": row.node_id,
        "bytes": len((row.output_json or "").encode()),
        "created_at": rfc3339_or_none(row.ended_at),
        "url": f"/api/v1/runs/{run_id}/artifacts/{row.node_id}",
    }


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Order ``draft[2]`` before ``draft[10]``."""
    parts = name.replace("]", "").split("[")
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
