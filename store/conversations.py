"""Conversations and messages: rows that are added and never changed; answers are read from their runs (W6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.conversation_tables import conversation_messages as messages
from store.conversation_tables import conversations
from store.dialect import id_list, ids_among, locking
from store.keyset import Page, decode, page_of
from store.statement import Statement, number, text
from store.tables import events, runs
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation; ``messages`` is the place of its newest message."""

    conversation_id: str
    tenant: str
    principal: str
    title: str
    settings_json: str
    messages: int
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message; an assistant's has a ``run_id`` and no ``content``. ``key`` names who sent it and their key."""

    message_id: str
    tenant: str
    conversation_id: str
    place: int
    parent_id: str | None
    role: str
    content: str | None
    run_id: str | None
    key: str | None
    fingerprint: str | None
    created_at: int


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What is known of an assistant's message: its run's status, and the run's last frame (JSON)."""

    run_id: str
    status: str
    frame: bytes | None


_CONVERSATION: Final = tuple(column.name for column in conversations.columns)
_MESSAGE: Final = tuple(column.name for column in messages.columns)
_MINE: Final = (conversations.c.tenant == text("of"), conversations.c.conversation_id == text("talk"))
_HERE: Final = (messages.c.tenant == text("of"), messages.c.conversation_id == text("talk"))


def _given(names: Sequence[str]) -> dict[str, sa.BindParameter[object]]:
    return {name: sa.bindparam(name, required=True) for name in names}


def _chain() -> sa.Select[tuple[object, ...]]:
    """Return a message and those it answers, one after the other, at most so many."""
    first = sa.select(*messages.c, sa.literal(1).label("step")).where(*_HERE, messages.c.message_id == text("last"))
    line = first.cte("line", recursive=True)
    above = (
        sa.select(*messages.c, line.c.step + 1)
        .join(line, messages.c.message_id == line.c.parent_id)
        .where(*_HERE, line.c.step < number("most"))
    )
    line = line.union_all(above)
    return sa.select(*(line.c[name] for name in _MESSAGE)).order_by(line.c.step)


_ADD: Final = Statement(sa.insert(conversations).values(_given(_CONVERSATION)))
_GET: Final = Statement(sa.select(conversations).where(*_MINE))
_LOCK: Final = Statement(lambda dialect: locking(dialect, sa.select(conversations).where(*_MINE)))
_GROW: Final = Statement(
    sa.update(conversations).where(*_MINE).values(messages=number("place"), updated_at=number("now_ms"))
)
_REMOVE: Final = Statement(sa.delete(conversations).where(*_MINE))
_REMOVE_MESSAGES: Final = Statement(sa.delete(messages).where(*_HERE))
_PAGE: Final = Statement(
    sa.select(conversations)
    .where(
        conversations.c.tenant == text("of"),
        sa.tuple_(conversations.c.created_at, conversations.c.conversation_id) < sa.tuple_(number("at"), text("name")),
    )
    .order_by(conversations.c.created_at.desc(), conversations.c.conversation_id.desc())
    .limit(number("most"))
)
_ADD_MESSAGE: Final = Statement(sa.insert(messages).values(_given(_MESSAGE)))
_DROP_MESSAGE: Final = Statement(sa.delete(messages).where(*_HERE, messages.c.message_id == text("message")))
_MESSAGE_OF: Final = Statement(sa.select(messages).where(*_HERE, messages.c.message_id == text("message")))
_BY_KEY: Final = Statement(sa.select(messages).where(*_HERE, messages.c.key == text("key")))
_NEWEST: Final = Statement(sa.select(messages).where(*_HERE).order_by(messages.c.place.desc()).limit(1))
_MESSAGES: Final = Statement(
    sa.select(messages)
    .where(*_HERE, messages.c.place < number("before"))
    .order_by(messages.c.place.desc())
    .limit(number("most"))
)
_CHAIN: Final = Statement(_chain())
_ANSWERS: Final = Statement(
    lambda dialect: (
        sa.select(runs.c.run_id, runs.c.status, events.c.data)
        .join(events, sa.and_(events.c.run_id == runs.c.run_id, events.c.seq == runs.c.last_seq), isouter=True)
        .where(runs.c.tenant == text("of"), ids_among(dialect, runs.c.run_id, "ids"))
    )
)


async def add(unit: Unit, row: ConversationRow) -> None:
    """Store a new conversation."""
    await unit.execute(_ADD, **{name: getattr(row, name) for name in _CONVERSATION})


async def get(database: Database, tenant: str, conversation_id: str) -> ConversationRow | None:
    """Return a conversation of the tenant."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_GET, of=tenant, talk=conversation_id)
        return None if row is None else ConversationRow(*row)


async def lock(unit: Unit, tenant: str, conversation_id: str) -> ConversationRow | None:
    """Return a conversation of the tenant, to which nobody else adds until the commit."""
    rows = await unit.fetch(_LOCK, of=tenant, talk=conversation_id)
    return ConversationRow(*rows[0]) if rows else None


async def page(database: Database, tenant: str, *, limit: int, cursor: str | None) -> Page[ConversationRow]:
    """Return a page of the tenant's conversations, newest first; raises ``BadQuery`` for a foreign cursor."""
    at, name = decode(cursor)
    async with database.reader() as reader:
        found = await reader.fetch(_PAGE, of=tenant, at=at, name=name, most=limit + 1)
    rows = [ConversationRow(*row) for row in found]
    return page_of(rows, limit, lambda row: (row.created_at, row.conversation_id))


async def remove(unit: Unit, tenant: str, conversation_id: str) -> None:
    """Delete a conversation with its messages; its runs stay."""
    await unit.execute(_REMOVE_MESSAGES, of=tenant, talk=conversation_id)
    await unit.execute(_REMOVE, of=tenant, talk=conversation_id)


async def add_messages(unit: Unit, rows: Sequence[MessageRow], now_ms: int) -> None:
    """Store messages at the end of a conversation, which is locked; ``Refused`` when a key is taken."""
    for row in rows:
        await unit.execute(_ADD_MESSAGE, **{name: getattr(row, name) for name in _MESSAGE})
    last = rows[-1]
    await unit.execute(_GROW, of=last.tenant, talk=last.conversation_id, place=last.place, now_ms=now_ms)


async def drop_messages(unit: Unit, rows: Sequence[MessageRow]) -> None:
    """Take messages back whose run was refused."""
    for row in rows:
        await unit.execute(_DROP_MESSAGE, of=row.tenant, talk=row.conversation_id, message=row.message_id)


async def message(unit: Unit, tenant: str, conversation_id: str, message_id: str) -> MessageRow | None:
    """Return one message, inside a transaction."""
    rows = await unit.fetch(_MESSAGE_OF, of=tenant, talk=conversation_id, message=message_id)
    return MessageRow(*rows[0]) if rows else None


async def newest(unit: Unit, tenant: str, conversation_id: str) -> MessageRow | None:
    """Return the newest message, inside a transaction."""
    rows = await unit.fetch(_NEWEST, of=tenant, talk=conversation_id)
    return MessageRow(*rows[0]) if rows else None


async def by_key(database: Database, tenant: str, conversation_id: str, key: str) -> MessageRow | None:
    """Return the assistant's message that was asked for under a key."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_BY_KEY, of=tenant, talk=conversation_id, key=key)
        return None if row is None else MessageRow(*row)


async def messages_before(
    database: Database, tenant: str, conversation_id: str, *, before: int, limit: int
) -> list[MessageRow]:
    """Return up to ``limit`` messages below the place ``before``, newest first."""
    async with database.reader() as reader:
        rows = await reader.fetch(_MESSAGES, of=tenant, talk=conversation_id, before=before, most=limit)
        return [MessageRow(*row) for row in rows]


async def chain(database: Database, tenant: str, conversation_id: str, message_id: str, limit: int) -> list[MessageRow]:
    """Return a message and those it answers, newest first, at most ``limit``."""
    async with database.reader() as reader:
        rows = await reader.fetch(_CHAIN, of=tenant, talk=conversation_id, last=message_id, most=limit)
        return [MessageRow(*row) for row in rows]


async def answers(database: Database, tenant: str, run_ids: Sequence[str]) -> dict[str, AnswerRow]:
    """Return run → its status and last frame; a run that is not there is missing."""
    if not run_ids:
        return {}
    async with database.reader() as reader:
        rows = await reader.fetch(_ANSWERS, of=tenant, ids=id_list(database.dialect, run_ids))
        return {row[0]: AnswerRow(*row) for row in rows}
