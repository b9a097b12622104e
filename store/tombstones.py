"""Tombstones: what is left of runs that retention has pruned (P6). Written in ``store/retention.py``, read here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.statement import Statement, text
from store.tables import pruned_prompts as of_prompts
from store.tables import tombstones


@dataclass(frozen=True, slots=True)
class TombstoneRow:
    """One pruned run. ``summary_json`` is its history summary; ``emptied_at`` is set once nothing else is left."""

    run_id: str
    tenant: str
    created_at: int
    pruned_at: int
    emptied_at: int | None
    summary_json: str


_OF_RUN: Final = Statement(
    sa.select(tombstones).where(tombstones.c.run_id == text("run_id"), tombstones.c.tenant == text("tenant"))
)
_OF_PROMPT: Final = Statement(
    sa.select(tombstones)
    .join(of_prompts, of_prompts.c.run_id == tombstones.c.run_id)
    .where(of_prompts.c.prompt_id == text("prompt_id"), tombstones.c.tenant == text("tenant"))
)


async def tombstone(database: Database, tenant: str, run_id: str) -> TombstoneRow | None:
    """Return what is left of a run, if it was pruned."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_OF_RUN, tenant=tenant, run_id=run_id)
        return None if row is None else TombstoneRow(*row)


async def tombstone_of_prompt(database: Database, tenant: str, prompt_id: str) -> TombstoneRow | None:
    """Return what is left of the run that a prompt was of, if it was pruned."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_OF_PROMPT, tenant=tenant, prompt_id=prompt_id)
        return None if row is None else TombstoneRow(*row)
