"""Workers: one heartbeat row per process, and the burial of dead ones (design §4). Nothing here takes a tenant.

Who is dead is decided by an observer: one whose beat has not changed for a full lease on the observer's own monotonic
clock (``store/watch.py`` shows it the beats). So a database that was away kills nobody.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.statement import Statement, number, text
from store.tables import RUN_IS_ACTIVE, runs, workers

_ENLIST: Final = Statement(
    sa.insert(workers).values(
        worker_id=text("worker_id"), beat=0, beat_at=number("now_ms"), info_json=text("info_json")
    )
)
_BEAT: Final = Statement(
    sa.update(workers)
    .where(workers.c.worker_id == text("of"))
    .values(beat=workers.c.beat + 1, beat_at=number("now_ms"))
)
_REMOVE: Final = Statement(sa.delete(workers).where(workers.c.worker_id == text("of")))
_TAKE_AWAY: Final = Statement(
    sa.update(runs)
    .where(runs.c.worker == text("of"), RUN_IS_ACTIVE)
    .values(worker=None, epoch=runs.c.epoch + 1, wake_at=number("now_ms"))
    .returning(runs.c.run_id)
)


async def enlist(database: Database, worker_id: str, now_ms: int, info_json: str = "{}") -> None:
    """Register a worker, before it claims anything; ``Refused`` if the id is taken."""
    async with database.unit() as unit:
        await unit.execute(_ENLIST, worker_id=worker_id, now_ms=now_ms, info_json=info_json)


async def beat(database: Database, worker_id: str, now_ms: int) -> bool:
    """Say that the worker lives; False: it was buried, its runs are gone, it must drop them and take a new id."""
    async with database.unit() as unit:
        return await unit.execute(_BEAT, of=worker_id, now_ms=now_ms) == 1


async def bury(database: Database, worker_id: str, now_ms: int) -> list[str]:
    """Take a dead worker's runs away (epoch + 1, due at once) and remove its row; returns the runs."""
    async with database.unit() as unit:
        # Its row goes first: of two observers one waits here, and then finds no runs.
        await unit.execute(_REMOVE, of=worker_id)
        return [row[0] for row in await unit.fetch(_TAKE_AWAY, of=worker_id, now_ms=now_ms)]
