"""Conversations: what was said, kept as a tree, each answer a run of its own (W6; decision 0008).

A turn is two messages, the user's and the assistant's, and the assistant's names the run that answers. They are stored
before the run begins, under a run id that was chosen for it, and the answer is read from the run: so nothing is written
twice, and a crash anywhere leaves a turn that can be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Protocol
from weakref import WeakValueDictionary

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import (
    ConversationFull,
    ConversationInvalid,
    ConversationNotFound,
    ErrorItem,
    FlexError,
    Forbidden,
    IdempotencyKeyReused,
    MessageNotFound,
    StoreUnavailable,
    TurnUnderWay,
)
from contracts.history import Trigger, Way
from contracts.ids import RUN
from contracts.lifecycle import RUN_ACTIVE
from contracts.ports import Clock, Ids
from contracts.wire import Wire, read_model
from service.answers import NOT_STARTED, Answers, shown_message
from service.chats import ChatInput, Chats
from service.rights import may_control
from store import conversations as stored
from store.connect import Database
from store.conversations import ConversationRow, MessageRow
from store.unit import Refused, Unit

CONVERSATION: Final = "cnv"
MESSAGE: Final = "msg"
MAX_MESSAGES: Final = 2_000
"""Messages of one conversation, all branches together."""
HISTORY: Final = 100
HISTORY_CHARACTERS: Final = 200_000
"""What of a conversation the model is told: the newest messages of the branch, within both bounds."""
MAX_PAGE: Final = 100
_UNDER_WAY: Final = frozenset(status.value for status in RUN_ACTIVE)
_Pair = tuple[MessageRow | None, MessageRow]
"""The user's message, if it is new, and the assistant's."""
_Id = Annotated[str, Field(min_length=1, max_length=128)]


class ConversationInput(Wire):
    """What a conversation's turns have in common; what is left out is as the settings say (see ``ChatInput``)."""

    title: Annotated[str, Field(max_length=200)] = ""
    tools: list[str] | None = None
    instructions: str | None = None
    max_rounds: int | None = None
    flow_id: str | None = None
    version: int | None = None
    policies: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class TurnInput(Wire):
    """What the user says. ``parent_id`` is the answer that it goes on from: the newest one, unless it is given.

    Null begins at the beginning; an earlier answer begins a branch.
    """

    content: Annotated[str, Field(min_length=1, max_length=100_000)]
    parent_id: _Id | None = None


class Accepted(Protocol):
    """What became of a submitted envelope."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def correlation_id(self) -> str:
        """The caller's, or a new one."""

    @property
    def created(self) -> bool:
        """Whether this request made it."""


class Submits(Protocol):
    """``service.runs.Runs``."""

    async def submit(
        self,
        body: Any,
        principal: Principal,
        *,
        key: str | None,
        correlation_id: str | None,
        trigger: Trigger,
        way: Way | None,
        run_id: str | None,
    ) -> Accepted:
        """Accept an envelope."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that is under way: the assistant's message, and its run."""

    message_id: str
    parent_id: str
    run_id: str
    correlation_id: str
    created: bool


class Conversations:
    """The use cases of conversations. Reading is open to the tenant; adding is for who began it, and operators."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, chats: Chats, runs: Submits) -> None:
        """Take the world, what makes envelopes of turns, and what runs them."""
        self._database, self._clock, self._ids = database, clock, ids
        self._chats, self._runs = chats, runs
        self._answers = Answers(database)
        # A run's name is its message's: two who repeat a turn must not both be giving birth to it.
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Store a new conversation. Raises ``ConversationInvalid``."""
        given = read_model(ConversationInput, {} if body is None else body, ConversationInvalid)
        settings = given.model_dump(mode="json", exclude_none=True, exclude={"title"})
        read_model(ChatInput, {**settings, "message": "x"}, ConversationInvalid)
        now_ms = self._clock.now_ms()
        row = ConversationRow(
            self._ids.new(CONVERSATION), principal.tenant, principal.subject, given.title,
            orjson.dumps(settings).decode(), 0, now_ms, now_ms,
        )  # fmt: skip
        async with self._database.unit() as unit:
            await stored.add(unit, row)
        return _shown(row)

    async def page(self, principal: Principal, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}``, newest first."""
        page = await stored.page(self._database, principal.tenant, limit=limit, cursor=cursor)
        return {"items": [_shown(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def get(
        self, principal: Principal, conversation_id: str, *, before: int | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """Return a conversation with a page of its messages, oldest first, and where earlier ones go on.

        Raises ``ConversationNotFound``.
        """
        row = await self._row(principal, conversation_id)
        found = await stored.messages_before(
            self._database, row.tenant, row.conversation_id, before=before or MAX_MESSAGES + 1, limit=limit + 1
        )
        shown = found[:limit][::-1]
        known = await self._answers.of(principal.tenant, shown)
        earlier = shown[0].place if len(found) > limit else None
        items = [shown_message(message, known) for message in shown]
        return {**_shown(row), "messages": {"items": items, "next_before": earlier}}

    async def remove(self, principal: Principal, conversation_id: str) -> None:
        """Delete a conversation and its messages; its runs stay. Raises ``ConversationNotFound``, ``Forbidden``."""
        row = await self._mine(principal, conversation_id)
        async with self._database.unit() as unit:
            await stored.remove(unit, row.tenant, row.conversation_id)

    async def turn(
        self,
        principal: Principal,
        conversation_id: str,
        body: Any,
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Turn:
        """Add what the user says and start the run that answers it. The same ``key`` and body give the same turn.

        Raises ``ConversationNotFound``, ``Forbidden``, ``ConversationInvalid``, ``MessageNotFound``, ``TurnUnderWay``,
        ``ConversationFull``, ``IdempotencyKeyReused``, and what submitting an envelope raises: then nothing is left.
        """
        row = await self._mine(principal, conversation_id)
        given = read_model(TurnInput, body, ConversationInvalid)
        asked = _Asked(_named(principal, key), _fingerprint(body))
        known = await self._known(row, asked)
        if known is None:
            parent = given.parent_id if "parent_id" in given.model_fields_set else await self._last(row)
            try:
                known = await self._add(row, parent, given.content, asked)
            except (Refused, TurnUnderWay):
                # The same key came twice at once; the other one was first, and its answer may be under way.
                known = await self._known(row, asked)
                if known is None:
                    raise
        return await self._start(principal, row, known, correlation_id)

    async def retry(
        self, principal: Principal, conversation_id: str, message_id: str, *, correlation_id: str | None = None
    ) -> Turn:
        """Answer a user's message again, beside the answer that is there; ``message_id`` is either of the two.

        Raises what :meth:`turn` raises.
        """
        row = await self._mine(principal, conversation_id)
        async with self._database.unit() as unit:
            row = await self._locked(unit, row)
            message = await self._message(unit, row, message_id)
            if message.role == "assistant":
                message = await self._message(unit, row, message.parent_id or "")
            answer = self._answer(row, row.messages + 1, message.message_id, _Asked(None, None))
            await stored.add_messages(unit, [answer], answer.created_at)
        return await self._start(principal, row, (None, answer), correlation_id)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _row(self, principal: Principal, conversation_id: str) -> ConversationRow:
        row = await stored.get(self._database, principal.tenant, conversation_id)
        if row is None:
            raise ConversationNotFound
        return row

    async def _mine(self, principal: Principal, conversation_id: str) -> ConversationRow:
        row = await self._row(principal, conversation_id)
        if not may_control(principal, row.principal):
            raise Forbidden("Only who began the conversation, an operator or an admin may do this to it.")
        return row

    async def _locked(self, unit: Unit, row: ConversationRow) -> ConversationRow:
        locked = await stored.lock(unit, row.tenant, row.conversation_id)
        if locked is None:
            raise ConversationNotFound
        if locked.messages + 2 > MAX_MESSAGES:
            raise ConversationFull(f"A conversation has at most {MAX_MESSAGES:,} messages; begin another.")
        return locked

    async def _message(self, unit: Unit, row: ConversationRow, message_id: str) -> MessageRow:
        found = await stored.message(unit, row.tenant, row.conversation_id, message_id)
        if found is None:
            raise MessageNotFound
        return found

    async def _last(self, row: ConversationRow) -> str | None:
        found = await stored.messages_before(
            self._database, row.tenant, row.conversation_id, before=MAX_MESSAGES + 1, limit=1
        )
        return found[0].message_id if found else None

    async def _known(self, row: ConversationRow, asked: _Asked) -> _Pair | None:
        if asked.key is None:
            return None
        found = await stored.by_key(self._database, row.tenant, row.conversation_id, asked.key)
        if found is None:
            return None
        if found.fingerprint != asked.fingerprint:
            raise IdempotencyKeyReused
        return None, found

    async def _add(self, row: ConversationRow, parent_id: str | None, content: str, asked: _Asked) -> _Pair:
        await self._check_parent(row, parent_id)
        async with self._database.unit() as unit:
            row = await self._locked(unit, row)
            now_ms = self._clock.now_ms()
            user = MessageRow(
                self._ids.new(MESSAGE), row.tenant, row.conversation_id, row.messages + 1, parent_id, "user", content,
                None, None, None, now_ms,
            )  # fmt: skip
            answer = self._answer(row, row.messages + 2, user.message_id, asked)
            await stored.add_messages(unit, [user, answer], now_ms)
        return user, answer

    def _answer(self, row: ConversationRow, place: int, parent_id: str, asked: _Asked) -> MessageRow:
        return MessageRow(
            self._ids.new(MESSAGE), row.tenant, row.conversation_id, place, parent_id, "assistant", None,
            self._ids.new(RUN), asked.key, asked.fingerprint, self._clock.now_ms(),
        )  # fmt: skip

    async def _check_parent(self, row: ConversationRow, parent_id: str | None) -> None:
        """Refuse to go on from what is not there, is no answer, or is not answered yet."""
        if parent_id is None:
            return
        found = await stored.chain(self._database, row.tenant, row.conversation_id, parent_id, 1)
        if not found:
            raise MessageNotFound(errors=[ErrorItem("/parent_id", "message_not_found", "There is no such message.")])
        if found[0].role != "assistant":
            message = "A turn goes on from an answer; retry the message to have it answered again."
            raise ConversationInvalid(errors=[ErrorItem("/parent_id", "not_an_answer", message)])
        status = (await self._answers.of(row.tenant, found))[found[0].run_id or ""].status
        if status in _UNDER_WAY:
            raise TurnUnderWay

    async def _start(
        self,
        principal: Principal,
        row: ConversationRow,
        turn: _Pair,
        correlation_id: str | None,
    ) -> Turn:
        """Start the run of an assistant's message, unless it has begun; take the messages back if it is refused."""
        async with self._starting.setdefault(turn[1].message_id, asyncio.Lock()):
            return await self._start_alone(principal, row, turn, correlation_id)

    async def _start_alone(
        self, principal: Principal, row: ConversationRow, turn: _Pair, correlation_id: str | None
    ) -> Turn:
        user, answer = turn
        known = await self._answers.of(row.tenant, [answer])
        run_id = answer.run_id or ""
        if known[run_id].status != NOT_STARTED:
            return Turn(answer.message_id, answer.parent_id or "", run_id, correlation_id or "", created=False)
        try:
            envelope = await self._envelope(principal, row, answer)
            # The key makes two requests for one message one run.
            run = await self._runs.submit(
                envelope,
                principal,
                key=f"turn.{answer.message_id}",
                correlation_id=correlation_id,
                trigger="chat",
                way="chat",
                run_id=run_id,
            )
        except StoreUnavailable:
            raise  # it may have begun
        except FlexError:
            async with self._database.unit() as unit:
                await stored.drop_messages(unit, [answer] if user is None else [user, answer])
            raise
        return Turn(answer.message_id, answer.parent_id or "", run_id, run.correlation_id, run.created)

    async def _envelope(self, principal: Principal, row: ConversationRow, answer: MessageRow) -> dict[str, Any]:
        line = await stored.chain(self._database, row.tenant, row.conversation_id, answer.parent_id or "", HISTORY)
        known = await self._answers.of(row.tenant, line)
        settings = orjson.loads(row.settings_json)
        metadata = {"conversation_id": row.conversation_id, "message_id": answer.message_id}
        return await self._chats.envelope(
            principal, {**settings, "messages": _history(line, known), "metadata": metadata}
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Under which key something was asked, and the hash of it."""

    key: str | None
    fingerprint: str | None


def _named(principal: Principal, key: str | None) -> str | None:
    """Return a caller's key as it is stored: keys of different callers never meet."""
    return None if key is None else f"{principal.subject} {key}"


def _fingerprint(body: Any) -> str:
    return sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _history(line: Sequence[MessageRow], known: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what the model is told of a branch, oldest first; answers that never came are left out."""
    told: list[dict[str, str]] = []
    size = 0
    for message in line:
        content = message.content if message.role == "user" else known[message.run_id or ""].text
        if not content:
            continue
        size += len(content)
        if told and size > HISTORY_CHARACTERS:
            break
        told.append({"role": message.role, "content": content})
    return told[::-1]


def _shown(row: ConversationRow) -> dict[str, Any]:
    return {
        "conversation_id": row.conversation_id,
        "title": row.title,
        "settings": orjson.loads(row.settings_json),
        "created_by": row.principal,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }
