"""Handing prompts over: claim, delegate, withdraw (H7). A decision itself is in ``service/prompts.py``."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from contracts.access import Principal
from contracts.errors import ErrorItem, PromptNotFound, Unprocessable
from contracts.prompts import MAX_COMMENT
from contracts.wire import Wire, read_model
from hitl.hands import Hands
from service.gone import prompt_gone_or_missing
from service.prompts import shown
from service.rights import check_withdraw
from store import prompts
from store.connect import Database
from store.rows import PromptRow

SUBJECT: Final = r"^user:[^\x00-\x20\x7f]{1,195}$"
_Comment = Annotated[str, Field(max_length=MAX_COMMENT)]


class ClaimInput(Wire):
    """What is posted to claim a prompt; ``release`` frees it, ``force`` lets an administrator take a claim away."""

    release: bool = False
    force: bool = False


class DelegateInput(Wire):
    """Whom a say is passed on to, as it stands in records (``user:ben``), and why."""

    to: Annotated[str, Field(pattern=SUBJECT)]
    comment: _Comment | None = None


class WithdrawInput(Wire):
    """Why a question is taken back."""

    comment: _Comment | None = None


class Handing:
    """The use cases. Each returns the prompt as it stands afterwards, and repeated changes nothing."""

    def __init__(self, database: Database, hands: Hands) -> None:
        """Take what is needed."""
        self._database, self._hands = database, hands

    async def claim(self, principal: Principal, prompt_id: str, body: Any, channel: str = "http") -> dict[str, Any]:
        """Claim a prompt for the caller, or free it. Raises what :meth:`hitl.hands.Hands.claim` and ``release`` do."""
        asked = read_model(ClaimInput, body, Unprocessable)
        move = self._hands.release if asked.release else self._hands.claim
        try:
            row = await move(principal, prompt_id, channel, force=asked.force)
        except PromptNotFound as error:
            raise await prompt_gone_or_missing(self._database, principal.tenant, prompt_id) from error
        return await self._shown(row)

    async def delegate(self, principal: Principal, prompt_id: str, body: Any, channel: str = "http") -> dict[str, Any]:
        """Pass the caller's say on. Raises Unprocessable, and what :meth:`hitl.hands.Hands.delegate` raises."""
        asked = read_model(DelegateInput, body, Unprocessable)
        if asked.to == principal.subject:
            raise Unprocessable(errors=[ErrorItem("/to", "not_allowed", "You have your own say already.")])
        try:
            row = await self._hands.delegate(principal, prompt_id, asked.to, asked.comment, channel)
        except PromptNotFound as error:
            raise await prompt_gone_or_missing(self._database, principal.tenant, prompt_id) from error
        return await self._shown(row)

    async def withdraw(self, principal: Principal, prompt_id: str, body: Any, channel: str = "http") -> dict[str, Any]:
        """Take a question back: its requester or an administrator. Raises Forbidden, and what the move raises."""
        asked = read_model(WithdrawInput, body, Unprocessable)
        row = await prompts.get(self._database, principal.tenant, prompt_id)
        if row is None:
            raise await prompt_gone_or_missing(self._database, principal.tenant, prompt_id)
        check_withdraw(principal, row.requester)
        return await self._shown(await self._hands.withdraw(principal, prompt_id, asked.comment, channel))

    async def _shown(self, row: PromptRow) -> dict[str, Any]:
        return (await shown(self._database, row.tenant, [row]))[0]
