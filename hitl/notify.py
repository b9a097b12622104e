"""Telling people that they are asked (H8): a message per address, written with what it tells, sent afterwards.

A notice is written in the transaction that raises, reminds or escalates, so it is never lost and never invented. It is
sent at least once: a process that dies between sending and noting it sends it again, with the same link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import StoreUnavailable
from contracts.ids import NOTIFICATION
from contracts.lifecycle import PromptStatus
from contracts.ports import Clock, Ids, MessageUnsent, Messenger
from contracts.prompts import PromptPolicy
from hitl.links import Links
from hitl.standing import standing_of
from store import notifications, prompts
from store.connect import Database
from store.notifications import NotificationRow
from store.rows import PromptRow
from store.unit import Unit

_log = structlog.get_logger("flex.hitl")

BATCH: Final = 20
LOOK_SECONDS: Final = 1.0
TRY_MS: Final = 120_000
"""A message that was taken and not settled is taken again after this long: its process died."""
BACKOFF_MS: Final = (5_000, 30_000, 120_000, 600_000, 1_800_000, 7_200_000)
"""Waits between tries; a message that failed once more is given up, and its row says why."""
TITLES: Final[Mapping[str, str]] = {
    "raised": "You are asked",
    "reminded": "Still waiting for you",
    "escalated": "Escalated to you",
    "delegated": "Passed on to you",
}


class Notices:
    """Writes notices; who has no address is only shown the inbox."""

    def __init__(self, ids: Ids, clock: Clock, book: Mapping[str, Sequence[str]]) -> None:
        """``book``: recipient (``user:ana``, ``role:operator``, ``group:finance``) → addresses."""
        self._ids, self._clock, self._book = ids, clock, book

    @property
    def any(self) -> bool:
        """Say whether anybody can be told."""
        return bool(self._book)

    async def notice(self, unit: Unit, row: PromptRow, kind: str, only: Sequence[str] | None = None) -> None:
        """Write a notice to everybody who is asked, or ``only`` to some, and has an address.

        ``kind`` is one of :data:`TITLES`.
        """
        now_ms = self._clock.now_ms()
        for recipient in recipients(row) if only is None else only:
            for place in range(len(self._book.get(recipient, ()))):
                made = NotificationRow(
                    self._ids.new(NOTIFICATION), row.tenant, row.prompt_id, row.run_id, kind,
                    f"{recipient}#{place}", now_ms, wake_at=now_ms,
                )  # fmt: skip
                await notifications.add(unit, made)


def recipients(row: PromptRow) -> list[str]:
    """Return who is asked now, as the address book names them.

    Not who passed their say on, but who got it; not the requester where they may not decide.
    """
    standing = standing_of(row, PromptPolicy.model_validate_json(row.policy_json))
    gave, got = standing.passed()
    asked = [
        *standing.assignees.users,
        *(f"role:{name}" for name in standing.assignees.roles),
        *(f"group:{name}" for name in standing.assignees.groups),
        *sorted(got),
    ]
    return [name for name in dict.fromkeys(asked) if name not in gave and name != standing.requester]


def address_of(book: Mapping[str, Sequence[str]], name: str) -> str | None:
    """Return the address of ``role:operator#0``, None when the book has it no more."""
    recipient, _, place = name.rpartition("#")
    addresses = book.get(recipient, ())
    return addresses[int(place)] if int(place) < len(addresses) else None


def holder_of(recipient: str, row: PromptRow) -> Principal | None:
    """Return as whom a recipient decides by a link; None: they must come to the inbox.

    Everybody behind the address of a role or group is one voice, since a link cannot tell them apart. For the same
    reason such an address gets no link where the requester may not decide: they could be behind it.
    """
    kind, _, name = recipient.partition(":")
    if kind == "user":
        return Principal(subject=recipient, tenant=row.tenant)
    if PromptPolicy.model_validate_json(row.policy_json).exclude_requester:
        return None
    held = frozenset({name})
    return Principal(
        subject=f"link:{recipient}",
        tenant=row.tenant,
        roles=held if kind == "role" else frozenset(),
        groups=held if kind == "group" else frozenset(),
    )


class Sender:
    """Sends what was written; one loop per process, any number of processes."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        messenger: Messenger,
        links: Links,
        book: Mapping[str, Sequence[str]],
        public_url: str,
    ) -> None:
        """Take the world; ``public_url`` is where people reach this service, without a slash at its end."""
        self._database, self._clock, self._messenger = database, clock, messenger
        self._links, self._book, self._public_url = links, book, public_url

    async def run(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look every ``look_seconds`` until cancelled; a database that does not answer is asked again."""
        while True:
            try:
                await self.tick()
            except StoreUnavailable as error:
                _log.warning("notices_unread", error=error.message)
            await asyncio.sleep(look_seconds)

    async def tick(self) -> int:
        """Send what is due, batch by batch; return how many were sent. Raises StoreUnavailable."""
        sent = 0
        while await notifications.any_due(self._database, self._clock.now_ms()):
            now_ms = self._clock.now_ms()
            async with self._database.unit() as unit:
                taken = await notifications.take(unit, now_ms, now_ms + TRY_MS, BATCH)
            outcomes = await asyncio.gather(*(self._send(notice) for notice in taken))
            sent += sum(outcomes)
            if len(taken) < BATCH:
                break
        return sent

    async def _send(self, notice: NotificationRow) -> bool:
        prompt = await prompts.get(self._database, notice.tenant, notice.prompt_id)
        if prompt is None or prompt.status != PromptStatus.OPEN:
            return await self._settle(notice, None, "The prompt is not open any more.")
        address = address_of(self._book, notice.recipient)
        if address is None:
            return await self._settle(notice, None, f"{notice.recipient} has no address any more.")
        body = message(prompt, await self._link(notice, prompt), self._public_url)
        try:
            await self._messenger.send(address, f"{TITLES[notice.kind]}: {_brief(prompt.question)}", body)
        except MessageUnsent as error:
            _log.warning("notice_unsent", prompt_id=notice.prompt_id, recipient=notice.recipient, error=str(error))
            return await self._settle(notice, self._again(notice), str(error)[:500])
        async with self._database.unit() as unit:
            await notifications.sent(unit, notice.notification_id, self._clock.now_ms())
        return True

    async def _settle(self, notice: NotificationRow, again_at: int | None, why: str) -> bool:
        async with self._database.unit() as unit:
            await notifications.failed(unit, notice.notification_id, again_at, why)
        return False

    def _again(self, notice: NotificationRow) -> int | None:
        tried = notice.attempts - 1
        return self._clock.now_ms() + BACKOFF_MS[tried] if tried < len(BACKOFF_MS) else None

    async def _link(self, notice: NotificationRow, prompt: PromptRow) -> str | None:
        holder = holder_of(notice.recipient.rpartition("#")[0], prompt)
        if holder is None:
            return None
        async with self._database.unit() as unit:
            token = await self._links.make(unit, f"lnk_{notice.notification_id}", prompt, holder)
        return f"{self._public_url}/review/{token}"


def message(prompt: PromptRow, link: str | None, public_url: str) -> str:
    """Return the text that people get: the question, until when, and where to answer. What is proposed stays inside."""
    lines = [prompt.question, ""]
    if prompt.due_at is not None:
        lines.append(f"Please answer before {rfc3339(prompt.due_at)}.")
    if link is not None:
        lines += [f"Look at it and decide: {link}", "The link is for you alone and decides once."]
    else:
        lines.append(f"Decide it as prompt {prompt.prompt_id} at {public_url}.")
    return "\n".join(lines)


def _brief(question: str) -> str:
    first = question.strip().splitlines()[0] if question.strip() else ""
    return first if len(first) <= 80 else first[:79] + "…"
