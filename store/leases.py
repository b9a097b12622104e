"""Leases of work that one process at a time should do, like pruning. Nothing breaks when two do it after all."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import insert_into
from store.statement import Statement, number, text
from store.tables import leases


def _take(dialect: str) -> Any:
    made = insert_into(dialect, leases).values(name=text("name"), holder=text("holder"), until=number("until"))
    mine = sa.or_(leases.c.holder == made.excluded.holder, leases.c.until <= number("now_ms"))
    return made.on_conflict_do_update(
        index_elements=["name"], set_={"holder": made.excluded.holder, "until": made.excluded.until}, where=mine
    ).returning(leases.c.holder)


_TAKE: Final = Statement(_take)
_GIVE_UP: Final = Statement(sa.delete(leases).where(leases.c.name == text("of"), leases.c.holder == text("by")))


async def take(database: Database, name: str, holder: str, seconds: float) -> bool:
    """Take a lease, or keep it when it is ours; False: somebody else has it."""
    now_ms = database.clock.now_ms()
    async with database.unit() as unit:
        until = now_ms + round(seconds * 1_000)
        return bool(await unit.fetch(_TAKE, name=name, holder=holder, until=until, now_ms=now_ms))


async def give_up(database: Database, name: str, holder: str) -> None:
    """Give a lease up before it ends."""
    async with database.unit() as unit:
        await unit.execute(_GIVE_UP, of=name, by=holder)
