"""What ``flex audit`` does: on the database itself, or on a file without any."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.commands.database import open_database
from app.commands.exits import FAILED, OK, CommandError
from app.commands.screen import Screen, table
from app.commands.text import clean
from contracts.access import DEFAULT_TENANT, LOCAL, Principal
from service.audit import Audit, verdict_item
from service.exported import verify_excerpt, verify_lines
from service.verifying import ChainCheck, Verdict
from store.audit_reads import ends, waiting
from store.tenants import with_records

Found = dict[str, dict[str, Any]]
"""Tenant (or file) → verdict as on the wire."""
_COLUMNS: Final = ("chain", "records", "unsealed", "head", "hash", "verdict")


class _Wanted:
    """Watches for the hash that was noted earlier."""

    def __init__(self, noted: str | None) -> None:
        self._noted = None if noted is None else noted.lower()
        self.found = noted is None

    def see(self, hash_: str) -> None:
        self.found = self.found or hash_ == self._noted

    def judge(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the verdict; a chain that holds but does not have the hash is not the one that was noted."""
        if self.found or not item["ok"]:
            return item
        seq = 0 if item["head"] is None else item["head"]["seq"]
        message = "No record has the hash that was noted: the chain was cut short, rewritten, or pruned that far."
        return {
            **item,
            "ok": False,
            "broken": {"seq": seq, "problem": "missing", "message": message, "record_id": None},
        }


async def verify_database(
    database_url: str | None, tenant: str | None, from_seq: int | None, head: str | None
) -> Found:
    """Verify the chains of a database; a place or a hash is meant of one tenant, the default one if none is named."""
    found: Found = {}
    if tenant is None and (from_seq is not None or head is not None):
        tenant = DEFAULT_TENANT
    async with open_database(database_url) as (_, database):
        for name in await with_records(database) if tenant is None else [tenant]:
            wanted = _Wanted(head)
            verdict = await ChainCheck(database, name, wanted.see).verify(from_seq)
            found[name] = wanted.judge(verdict_item(verdict, await waiting(database, name)))
    return found


def verify_file(path: Path, from_seq: int | None, head: str | None, *, excerpt: bool) -> Found:
    """Verify an exported file."""
    wanted = _Wanted(head)
    try:
        with path.open("rb") as lines:
            verdict: Verdict = (
                verify_excerpt(lines, wanted.see) if excerpt else verify_lines(lines, from_seq, wanted.see)
            )
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    return {str(path): wanted.judge(verdict_item(verdict, 0))}


def show_verdicts(found: Found, *, as_json: bool) -> int:
    """Print the verdicts; return the exit code."""
    screen = Screen()
    code = OK if all(item["ok"] for item in found.values()) else FAILED
    if as_json:
        screen.json({"ok": code == OK, "chains": found})
        return code
    if not found:
        screen.say("There are no audit records.")
        return code
    screen.show(table(_COLUMNS, [_row(name, item) for name, item in found.items()]))
    for name, item in found.items():
        if item["broken"] is not None:
            screen.error(f"{clean(name)}: {item['broken']['problem']}: {clean(item['broken']['message'])}")
    return code


def _row(name: str, item: Mapping[str, Any]) -> list[Any]:
    head = item["head"] or {"seq": 0, "hash": ""}
    verdict = "holds" if item["ok"] else f"{item['broken']['problem']} at {item['broken']['seq']}"
    return [name, item["checked"], item["unsealed"], head["seq"], head["hash"], verdict]


async def export_lines(database_url: str | None, tenant: str, chosen: Mapping[str, str]) -> int:
    """Write the sealed records to stdout, and to people where the chain ends; return the exit code."""
    async with open_database(database_url) as (_, database):
        auditor = Principal(LOCAL.subject, tenant, LOCAL.roles)
        head = (await ends(database, tenant)).head
        try:
            async for piece in await Audit(database).export(auditor, chosen):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever reads has seen enough; Python would complain when it flushes at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
    if head is not None and not chosen:
        Screen().say(f"The chain ends at record {head.seq}. Keep its hash elsewhere: {head.hash}")
    return OK
