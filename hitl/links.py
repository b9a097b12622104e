"""Review links: signed, expiring, good for one decision on one prompt (H8).

The token names a stored link and carries its signature, so a forged one costs no query and a stolen database row makes
no token. Looking at a link changes nothing: only a decision uses it up, in the decision's own transaction, so that mail
scanners which follow every link decide nothing (n8n#27870).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import orjson

from contracts.access import Principal
from contracts.errors import LinkExpired, LinkNotFound, LinkUsed
from contracts.ports import Clock, Signer
from store import links
from store.connect import Database
from store.links import LinkRow
from store.rows import PromptRow
from store.unit import Unit

PURPOSE: Final = "review"
CHANNEL: Final = "link"
_TOKEN: Final = re.compile(r"([A-Za-z0-9_]{1,60})\.([A-Za-z0-9_-]{20,100})")


@dataclass(frozen=True, slots=True)
class Opened:
    """A link whose token is ours: who holds it, and for which prompt."""

    link_id: str
    prompt_id: str
    principal: Principal
    used: bool


class Links:
    """Makes links and reads them; one per process, without state of its own."""

    def __init__(self, database: Database, clock: Clock, signer: Signer, life_ms: int) -> None:
        """Take the world; ``life_ms`` is how long a link is good for."""
        self._database, self._clock, self._signer, self._life_ms = database, clock, signer, life_ms

    def token(self, link_id: str) -> str:
        """Return the token of a link."""
        return f"{link_id}.{self._signer.sign(PURPOSE, link_id)}"

    async def make(self, unit: Unit, link_id: str, prompt: PromptRow, holder: Principal) -> str:
        """Store a link that lets ``holder`` decide the prompt; return its token. Making it again gives the same."""
        row = LinkRow(
            link_id=link_id,
            tenant=prompt.tenant,
            prompt_id=prompt.prompt_id,
            subject=holder.subject,
            roles_json=orjson.dumps(sorted(holder.roles)).decode(),
            groups_json=orjson.dumps(sorted(holder.groups)).decode(),
            expires_at=self._clock.now_ms() + self._life_ms,
        )
        await links.add(unit, row)
        return self.token(link_id)

    async def open(self, token: str) -> Opened:
        """Return what a token is good for; raises LinkNotFound (also for a forged one), LinkExpired.

        A used link opens, so that its page can say what was decided; deciding with it is refused by :meth:`use`.
        """
        parts = _TOKEN.fullmatch(token)
        if parts is None or not self._signer.holds(PURPOSE, parts[1], parts[2]):
            raise LinkNotFound
        row = await links.get(self._database, parts[1])
        if row is None:
            raise LinkNotFound
        if row.used_at is None and row.expires_at <= self._clock.now_ms():
            raise LinkExpired
        holder = Principal(
            subject=row.subject,
            tenant=row.tenant,
            roles=frozenset(orjson.loads(row.roles_json)),
            groups=frozenset(orjson.loads(row.groups_json)),
        )
        return Opened(row.link_id, row.prompt_id, holder, used=row.used_at is not None)

    async def use(self, unit: Unit, link_id: str) -> None:
        """Use a link up within the unit that stores its decision; raises LinkUsed, and then nothing is stored."""
        if not await links.use(unit, link_id, self._clock.now_ms()):
            raise LinkUsed
