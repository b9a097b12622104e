"""Executions: the history of flows and of everything else, with what goes on now (T1-T3, T5).

An execution is a run that somebody asked for; its id is the run's. Child runs are parts of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.agents import FolderFlows
from contracts.clock import rfc3339, rfc3339_or_none
from contracts.errors import BadQuery, ErrorItem, ExecutionNotFound, FlowNotFound
from contracts.history import MOST_LETTERS, By, Origin, Wanted, given_of, preview_of, words_of
from contracts.lifecycle import RUN_ACTIVE, RUN_TERMINAL
from contracts.ports import Clock
from service.reads import Reads
from service.resolving import NO_FOLDER
from store import analytics, flows, history
from store.analytics import Sums
from store.connect import Database
from store.history import COUNTED, LiveRow
from store.keyset import Page, decode, page_of
from store.rows import HistoryRow
from store.runs import run_row

DEEPEST: Final = 10_000
"""How deep a page by number may lie; a cursor costs the same at any depth."""
NODES: Final = 200
"""Nodes that an execution's detail shows; the others are behind ``links.nodes``."""
_BATCH: Final = 200
_WORDS: Final = 8
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """An execution in a list, live or ended, with the key by which it is sorted."""

    at: int
    run_id: str
    flow_id: str | None
    item: Item


class Executions:
    """The use cases of reading executions. Everything is read with the caller's tenant."""

    def __init__(self, database: Database, clock: Clock, reads: Reads, folder: FolderFlows = NO_FOLDER) -> None:
        """Take the world; ``reads`` shows what is inside a run, ``folder`` has the flows that are files."""
        self._database, self._clock, self._reads, self._folder = database, clock, reads, folder

    async def of_flow(
        self, principal: Principal, flow_id: str, *, page: int, limit: int, cursor: str | None, status: str | None
    ) -> dict[str, Any]:
        """Return a page of a flow's executions, newest first, by number or behind a cursor (T2).

        ``{"items", "total", "total_is_exact", "page", "limit", "total_pages", "next_cursor",
        "has_pending_executions"}``; ``page`` is null behind a cursor. Raises ``FlowNotFound``, ``BadQuery``.
        """
        tenant = principal.tenant
        if not await self._there(tenant, [flow_id]):
            raise FlowNotFound
        wanted = Wanted(flow_id=flow_id, status=status)
        start = decode(cursor) if cursor is not None else await self._start(tenant, wanted, page, limit)
        nothing: Page[Found] = Page([], None)
        found = nothing if start is None else await self._page(tenant, wanted, start, limit)
        total = await self._count(tenant, wanted)
        return {
            "items": await self._items(tenant, found.rows),
            "total": min(total, COUNTED),
            "total_is_exact": total <= COUNTED,
            "page": None if cursor is not None else page,
            "limit": limit,
            "total_pages": -(-min(total, COUNTED) // limit),
            "next_cursor": found.next_cursor,
            "has_pending_executions": await history.pending(self._database, tenant, flow_id),
        }

    async def page(self, principal: Principal, wanted: Wanted, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}`` across flows, newest first. Raises ``BadQuery`` for a foreign cursor."""
        found = await self._page(principal.tenant, wanted, decode(cursor), limit)
        return {"items": await self._items(principal.tenant, found.rows), "next_cursor": found.next_cursor}

    async def counts(self, principal: Principal, wanted: Wanted) -> dict[str, Any]:
        """Return ``{"counts": {status: n}, "total", "exact"}``; a count stops at 10,000: ``exact`` is false then."""
        counts = {}
        for status in sorted(RUN_ACTIVE | RUN_TERMINAL):
            if wanted.status in (None, status):
                alive = status in RUN_ACTIVE
                named = replace(wanted, status=str(status))
                counts[str(status)] = await history.count(self._database, principal.tenant, named, alive=alive)
        exact = all(number <= COUNTED for number in counts.values())
        shown = {status: min(number, COUNTED) for status, number in counts.items()}
        return {"counts": shown, "total": sum(shown.values()), "exact": exact}

    async def usage(self, principal: Principal, by: By, wanted: Wanted, limit: int) -> dict[str, Any]:
        """Return what ended executions used: ``{"total", "by", "items"}``, the most expensive groups first (W6)."""
        total = await analytics.sums(self._database, principal.tenant, wanted)
        groups = await analytics.grouped(self._database, principal.tenant, by, wanted, limit)
        items = [{"key": key, "name": name or None, **_used(sums)} for key, name, sums in groups]
        return {"by": by, "total": _used(total), "items": items}

    async def detail(self, principal: Principal, execution_id: str, flow_id: str | None = None) -> dict[str, Any]:
        """Return an execution with its parameters and every node's attempts (T3); a pruned one without them.

        Raises ``ExecutionNotFound``: there is none, or it is not the flow's.
        """
        tenant = principal.tenant
        ended = await history.ended_one(self._database, tenant, execution_id)
        run = await run_row(self._database, tenant, execution_id)
        if (ended is None and run is None) or (run is not None and run.parent_run_id is not None):
            raise ExecutionNotFound
        inside = None if run is None else await self._inside(principal, execution_id)
        if ended is not None:
            found = _of_ended(ended)
        else:
            envelope = inside["envelope_json"] if inside else "{}"
            live = LiveRow(**{name: getattr(run, name) for name in _OF_RUN}, envelope_json=envelope)
            found = _of_live(live, self._clock.now_ms())
        if flow_id is not None and found.flow_id != flow_id:
            raise ExecutionNotFound
        item = (await self._items(tenant, [found]))[0]
        if inside is None:
            return {**item, "pruned": True, "inputs": None, "output": None, "nodes": [], "more_nodes": False}
        inputs = given_of(orjson.loads(inside.pop("envelope_json")))
        return {**item, "pruned": False, "inputs": inputs, **inside}

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _start(self, tenant: str, wanted: Wanted, page: int, limit: int) -> tuple[int, str] | None:
        """Return the key behind which a page by number begins; None: there is no such page."""
        if page * limit > DEEPEST:
            message = f"Pages by number reach to execution {DEEPEST:,}; beyond go by next_cursor."
            raise BadQuery(errors=[ErrorItem("/page", "page_too_deep", message)])
        if page == 1:
            return decode(None)
        return await history.place(self._database, tenant, wanted, (page - 1) * limit - 1)

    async def _page(self, tenant: str, wanted: Wanted, start: tuple[int, str], limit: int) -> Page[Found]:
        """Merge what is live with what ended. What ends between the two reads is shown once, as it ended."""
        alive = await self._alive(tenant, wanted, start, limit + 1) if wanted.live else []
        rows = await history.ended(self._database, tenant, wanted, start, limit + 1) if wanted.ended else []
        both = {found.run_id: found for found in [*alive, *map(_of_ended, rows)]}
        newest = sorted(both.values(), key=lambda found: (found.at, found.run_id), reverse=True)
        return page_of(newest[: limit + 1], limit, lambda found: (found.at, found.run_id))

    async def _alive(self, tenant: str, wanted: Wanted, start: tuple[int, str], most: int) -> list[Found]:
        """Return up to ``most`` live executions; what their rows say in JSON only is compared here."""
        fits = _fits(wanted)
        found: list[Found] = []
        now_ms, at = self._clock.now_ms(), start
        while len(found) < most:
            size = most if fits is None else max(most, _BATCH)
            rows = await history.live(self._database, tenant, wanted, at, size)
            found += [_of_live(row, now_ms) for row in rows if fits is None or fits(row)]
            if len(rows) < size:
                break
            at = (rows[-1].created_at, rows[-1].run_id)
        return found[:most]

    async def _count(self, tenant: str, wanted: Wanted) -> int:
        alive = await history.count(self._database, tenant, wanted, alive=True) if wanted.live else 0
        return alive + (await history.count(self._database, tenant, wanted, alive=False) if wanted.ended else 0)

    async def _items(self, tenant: str, found: Sequence[Found]) -> list[Item]:
        """Return what is shown; a flow that is not there any more has no id, its name stays (T5)."""
        names = {each.flow_id for each in found if each.flow_id is not None}
        there = await self._there(tenant, sorted(names))
        return [{**each.item, "flow_id": each.flow_id if each.flow_id in there else None} for each in found]

    async def _there(self, tenant: str, names: Sequence[str]) -> frozenset[str]:
        """Return those of the flows that are there, stored or as files."""
        filed = frozenset(name for name in names if self._folder.document(name) is not None)
        stored = [name for name in names if name not in filed]
        return filed | await flows.those_there(self._database, tenant, stored)

    async def _inside(self, principal: Principal, run_id: str) -> dict[str, Any]:
        nodes = await self._reads.attempts(principal, run_id, NODES + 1)
        output, error = await self._reads.end(principal, run_id)
        return {
            "envelope_json": await self._reads.envelope_json(principal, run_id),
            "output": output,
            "error": error,
            "nodes": nodes[:NODES],
            "more_nodes": len(nodes) > NODES,
        }


_OF_RUN: Final = (
    "run_id", "principal", "status", "objective", "ledger_json", "created_at", "started_at", "origin_run_id",
    "origin_json",
)  # fmt: skip


def _used(sums: Sums) -> dict[str, Any]:
    return {
        "executions": sums.executions,
        "completed": sums.completed,
        "failed": sums.failed,
        "cancelled": sums.cancelled,
        "tokens": sums.tokens,
        "cost": round(sums.cost, 6),
        "duration_ms": sums.duration_ms,
        "waited_ms": sums.waited_ms,
    }


def read_words(query: str | None) -> tuple[str, ...]:
    """Return the words of a search: an execution is found when each of them begins one of its words.

    Raises ``BadQuery`` for a search without a letter or digit, or with more than eight words.
    """
    if query is None:
        return ()
    words = tuple(words_of(query).split())
    if not words or len(words) > _WORDS:
        raise BadQuery(errors=[ErrorItem("/q", "bad_search", f"Between one and {_WORDS} words.")])
    return tuple(word[:MOST_LETTERS] for word in words)


def _fits(wanted: Wanted) -> Callable[[LiveRow], bool] | None:
    """Return the part of a filter that live rows are compared with one by one; None: there is none."""
    if wanted.template_id is None and wanted.trigger is None and wanted.way is None and not wanted.words:
        return None

    def fits(row: LiveRow) -> bool:
        origin = Origin.from_json(row.origin_json)
        said = {"template_id": origin.template_id, "trigger": origin.trigger, "way": origin.way}
        if any(getattr(wanted, name) not in (None, value) for name, value in said.items()):
            return False
        return not wanted.words or _has(wanted.words, _words(row, origin))

    return fits


def _has(wanted: Sequence[str], words: str) -> bool:
    known = words.split()
    return all(any(word.startswith(each) for word in known) for each in wanted)


def _words(row: LiveRow, origin: Origin) -> str:
    preview = preview_of(_inputs(row))
    return words_of(origin.flow_name, origin.template_name, origin.tool, preview, row.objective)


def _inputs(row: LiveRow) -> Any:
    return given_of(orjson.loads(row.envelope_json))


def _of_live(row: LiveRow, now_ms: int) -> Found:
    origin = Origin.from_json(row.origin_json)
    ledger = orjson.loads(row.ledger_json)
    waited = int(ledger.get("waited_ms", 0))
    if ledger.get("waiting_since") is not None:
        waited += max(0, now_ms - int(ledger["waiting_since"]))
    item = {
        "id": row.run_id,
        **_of_origin(origin),
        "status": row.status,
        "objective": row.objective[:200],
        "preview": preview_of(_inputs(row)),
        "principal": row.principal,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339_or_none(row.started_at),
        "ended_at": None,
        "duration_ms": max(0, now_ms - row.created_at - waited),
        "waited_ms": waited,
        "asks": ledger.get("asks", 0),
        "usage": {"tokens": ledger.get("tokens", 0), "cost": ledger.get("cost", 0)},
        "error": None,
        "forked_from": row.origin_run_id,
    }
    return Found(row.created_at, row.run_id, origin.flow_id, item)


def _of_ended(row: HistoryRow) -> Found:
    error = {"code": row.error_code, "message": row.error_message, "node_id": row.failed_node_id}
    origin: Mapping[str, Any] = {name: getattr(row, name) for name in Origin.__dataclass_fields__}
    item = {
        "id": row.run_id,
        **_of_origin(Origin(**origin)),
        "status": row.status,
        "objective": row.objective,
        "preview": row.preview,
        "principal": row.principal,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339_or_none(row.started_at),
        "ended_at": rfc3339(row.ended_at),
        "duration_ms": row.duration_ms,
        "waited_ms": row.waited_ms,
        "asks": row.asks,
        "usage": {"tokens": row.tokens, "cost": row.cost},
        "error": None if row.error_code is None else error,
        "forked_from": row.origin_run_id,
    }
    return Found(row.created_at, row.run_id, row.flow_id, item)


def _of_origin(origin: Origin) -> Item:
    return {
        "way": origin.way,
        "trigger": origin.trigger,
        "flow_id": origin.flow_id,
        "flow_version": origin.flow_version,
        "flow_name": origin.flow_name,
        "template_id": origin.template_id,
        "template_name": origin.template_name,
        "story_id": origin.story_id,
        "tool_name": origin.tool or origin.flow_name or origin.template_name,
    }
