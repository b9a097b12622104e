"""Messages about prompts on their way to people (H8).

They are written with what they tell, and sent at least once by whoever takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store import tables as t
from store.connect import Database
from store.dialect import skip_locked
from store.statement import Statement, number, text
from store.unit import Unit

_N: Final = t.notifications.c
_GIVEN: Final = tuple(column.name for column in t.notifications.c)


@dataclass(slots=True)
class NotificationRow:
    """One message to one recipient. ``wake_at`` is when it is next tried, null once it is sent or given up (ms)."""

    notification_id: str
    tenant: str
    prompt_id: str
    run_id: str
    kind: str
    recipient: str
    created_at: int
    wake_at: int | None
    attempts: int = 0
    sent_at: int | None = None
    error: str | None = None


_ADD: Final = Statement(
    sa.insert(t.notifications).values({name: sa.bindparam(name, type_=_N[name].type, required=True) for name in _GIVEN})
)
_DUE: Final = (_N.wake_at.is_not(None), _N.wake_at <= number("now_ms"))
_ANY: Final = Statement(sa.select(_N.notification_id).where(*_DUE).limit(1))


def _take(dialect: str) -> sa.Update:
    due = sa.select(_N.notification_id).where(*_DUE).order_by(_N.wake_at).limit(number("most"))
    chosen = skip_locked(dialect, due).cte("due")
    return (
        sa.update(t.notifications)
        .where(_N.notification_id.in_(sa.select(chosen.c.notification_id)))
        .values(wake_at=number("again_at"), attempts=_N.attempts + 1)
        .returning(*_N)
    )


_TAKE: Final = Statement(_take)
_SENT: Final = Statement(
    sa.update(t.notifications)
    .where(_N.notification_id == text("which"), _N.sent_at.is_(None))
    .values(wake_at=None, sent_at=number("now_ms"), error=None)
)
_FAILED: Final = Statement(
    sa.update(t.notifications)
    .where(_N.notification_id == text("which"), _N.sent_at.is_(None))
    .values(
        wake_at=sa.bindparam("again_at", type_=sa.BigInteger, required=True),
        error=sa.bindparam("why", type_=sa.Text, required=True),
    )
)
_OF_PROMPT: Final = Statement(
    sa.select(t.notifications)
    .where(_N.tenant == text("tenant"), _N.prompt_id == text("prompt_id"))
    .order_by(_N.created_at, _N.notification_id)
)


async def add(unit: Unit, row: NotificationRow) -> None:
    """Write a message in the unit of what it tells."""
    await unit.execute(_ADD, **{name: getattr(row, name) for name in _GIVEN})


async def any_due(database: Database, now_ms: int) -> bool:
    """Say whether a message of any tenant is to be sent: a cheap look before :func:`take`."""
    async with database.near() as reader:
        return await reader.fetch_one(_ANY, now_ms=now_ms) is not None


async def take(unit: Unit, now_ms: int, again_at: int, limit: int) -> list[NotificationRow]:
    """Take up to ``limit`` due messages; whoever took one and dies leaves it to be taken again at ``again_at``."""
    rows = await unit.fetch(_TAKE, now_ms=now_ms, again_at=again_at, most=limit)
    return [NotificationRow(*row) for row in rows]


async def sent(unit: Unit, notification_id: str, now_ms: int) -> None:
    """Note that a message was taken by its addresses."""
    await unit.execute(_SENT, which=notification_id, now_ms=now_ms)


async def failed(unit: Unit, notification_id: str, again_at: int | None, why: str) -> None:
    """Note why a message was not sent; ``again_at`` None gives it up."""
    await unit.execute(_FAILED, which=notification_id, again_at=again_at, why=why)


async def of_prompt(database: Database, tenant: str, prompt_id: str) -> list[NotificationRow]:
    """Return what people were told about a prompt, oldest first."""
    async with database.near() as reader:
        rows = await reader.fetch(_OF_PROMPT, tenant=tenant, prompt_id=prompt_id)
        return [NotificationRow(*row) for row in rows]
