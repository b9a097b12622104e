"""Reading, exporting and verifying the audit records of the caller's tenant (H9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from contracts.access import Principal
from hitl.chain import item_of, line_of
from service.rights import check_audit
from service.verifying import ChainCheck, Verdict
from store import audit_reads as reads
from store.audit import Mark
from store.connect import Database

BATCH: Final = 500
SPAN: Final = 2_000
"""How many records of a chain one query of an export looks through for rare kinds and actors."""
MOST_VERIFIED: Final = 5_000
"""How many records one request verifies."""


class Audit:
    """The use cases of audit records; for admins and operators."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    async def page(
        self, principal: Principal, chosen: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}``, newest first; ``seq`` and hashes are null until a record is sealed.

        ``chosen``: the values wanted of ``run_id``, ``prompt_id``, ``kind``, ``actor``. Raises Forbidden, BadQuery.
        """
        check_audit(principal)
        found = await reads.page(self._database, principal.tenant, chosen, limit=limit, cursor=cursor)
        return {"items": [item_of(row) for row in found.rows], "next_cursor": found.next_cursor}

    async def export(self, principal: Principal, chosen: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Return the sealed records as JSON lines in the chain's order, some hundred per piece.

        It ends where the chain ended when it began. Raises Forbidden; StoreUnavailable, also on the way.
        """
        check_audit(principal)
        ends = await reads.ends(self._database, principal.tenant)
        return self._lines(principal.tenant, chosen, ends.last_seq or 0)

    async def _lines(self, tenant: str, chosen: Mapping[str, str], last: int) -> AsyncIterator[bytes]:
        direct = not chosen or "run_id" in chosen or "prompt_id" in chosen
        seq = 0
        while seq < last:
            upto = last if direct else min(last, seq + SPAN)
            rows = await reads.after(self._database, tenant, seq, upto, BATCH, chosen)
            if rows:
                yield b"".join(line_of(item_of(row)) + b"\n" for row in rows)
            full = len(rows) == BATCH and rows[-1].seq is not None
            seq = rows[-1].seq or upto if full else upto

    async def verify(self, principal: Principal, from_seq: int | None) -> dict[str, Any]:
        """Verify up to 5,000 records from ``from_seq`` on, the chain's beginning without it.

        Returns ``{"ok", "checked", "head", "next_seq", "unsealed", "broken"}``; ``next_seq`` is null once the end has
        been compared with the head. Raises Forbidden, BadQuery.
        """
        check_audit(principal)
        verdict = await ChainCheck(self._database, principal.tenant).verify(from_seq, MOST_VERIFIED)
        return verdict_item(verdict, await reads.waiting(self._database, principal.tenant))


def verdict_item(verdict: Verdict, unsealed: int) -> dict[str, Any]:
    """Return a verdict as it goes over the wire; ``unsealed`` is how many records wait for their place."""
    return {
        "ok": verdict.broken is None,
        "checked": verdict.checked,
        "head": _mark(verdict.head),
        "next_seq": verdict.next_seq,
        "unsealed": unsealed,
        "broken": None if verdict.broken is None else asdict(verdict.broken),
    }


def _mark(mark: Mark | None) -> dict[str, Any] | None:
    return None if mark is None else {"seq": mark.seq, "hash": mark.hash}
