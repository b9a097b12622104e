"""What the rest of this room needs of telling people that they are asked (H8); ``hitl/notify.py`` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from store.rows import PromptRow
from store.unit import Unit


class Teller(Protocol):
    """Writes down that people are to be told of a prompt, in the transaction that says so."""

    async def notice(self, unit: Unit, row: PromptRow, kind: str, only: Sequence[str] | None = None) -> None:
        """Write a notice to everybody who is asked, or ``only`` to some.

        ``kind`` is ``raised``, ``reminded``, ``escalated`` or ``delegated``.
        """


class Nobody:
    """Tells nobody: people look into the inbox."""

    async def notice(self, unit: Unit, row: PromptRow, kind: str, only: Sequence[str] | None = None) -> None:
        """Do nothing."""
