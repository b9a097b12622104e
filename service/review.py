"""Deciding by a review link: the same decision as everywhere, as the person the link was sent to (H8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from contracts.errors import LinkNotFound, Unprocessable
from contracts.prompts import DecisionInput
from contracts.wire import read_model
from hitl.desk import Desk
from hitl.links import CHANNEL, Links, Opened
from hitl.render import to_prompt, wire
from store import prompts, runs
from store.connect import Database
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class Review:
    """What a link shows: its prompt as it stands on the wire, what the run is for, and what was decided, if it was."""

    prompt: Mapping[str, Any]
    objective: str
    holder: str
    used: bool
    decision: Mapping[str, Any] | None


class Reviews:
    """The use cases of review links. Looking never changes anything."""

    def __init__(self, database: Database, desk: Desk, links: Links) -> None:
        """Take what is needed."""
        self._database, self._desk, self._links = database, desk, links

    async def show(self, token: str) -> Review:
        """Return what the link shows. Raises LinkNotFound, LinkExpired, StoreUnavailable."""
        return await self._show(await self._links.open(token))

    async def decide(self, token: str, body: Any) -> Review:
        """Decide the link's prompt and use the link up, both or neither; return what it shows afterwards.

        Raises LinkNotFound, LinkExpired, LinkUsed, Unprocessable, and what deciding raises.
        """
        opened = await self._links.open(token)
        said = read_model(DecisionInput, body, Unprocessable)

        async def use(unit: Unit) -> None:
            await self._links.use(unit, opened.link_id)

        await self._desk.decide(opened.principal, opened.prompt_id, said, CHANNEL, within=use)
        return await self._show(opened, used=True)

    async def _show(self, opened: Opened, *, used: bool = False) -> Review:
        tenant = opened.principal.tenant
        row = await prompts.get(self._database, tenant, opened.prompt_id)
        run = None if row is None else await runs.run_row(self._database, tenant, row.run_id)
        if row is None or run is None:
            raise LinkNotFound
        votes = await prompts.votes_of(self._database, tenant, row.prompt_id)
        return Review(
            prompt=wire(to_prompt(row, votes)),
            objective=run.objective,
            holder=opened.principal.subject,
            used=used or opened.used,
            decision=None if row.decision_json is None else orjson.loads(row.decision_json),
        )
