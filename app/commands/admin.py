"""``flex db upgrade`` and ``flex capabilities``."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from app.commands.door import Place
from app.commands.opening import open_door
from app.commands.options import AsJson, CapabilityFiles, DatabaseUrl, Url, carry_out

db = typer.Typer(help="Look after the database.", no_args_is_help=True)


@db.callback()
def _group() -> None:
    """Keep ``upgrade`` a command of its own: with one command alone typer would drop its name."""


@db.command()
def upgrade(database_url: DatabaseUrl = None) -> None:
    """Bring the database to the newest schema. ``flex serve`` does so by itself."""

    async def work() -> None:
        from app.commands.configured import settings_of
        from app.commands.exits import FAILED, CommandError
        from app.commands.screen import Screen
        from contracts.errors import FlexError
        from store.migrate import upgrade

        settings = settings_of(Place(database_url=database_url))
        try:
            # It runs an event loop of its own.
            await asyncio.to_thread(upgrade, settings.database_url)
        except FlexError as error:
            raise CommandError(error.message, exit_code=FAILED) from error
        Screen().say("The database has the newest schema.")

    carry_out(work())


def capabilities(
    url: Url = None, database_url: DatabaseUrl = None, file: CapabilityFiles = None, as_json: AsJson = False
) -> None:
    """List what can be done: each capability, what it takes and yields, and whether it can be used now."""

    async def work() -> None:
        from app.commands.screen import Screen, table

        async with open_door(Place(url, database_url, tuple(file or ()))) as door:
            items: list[dict[str, Any]] = []
            cursor = None
            while True:
                page = await door.capabilities(cursor)
                items += page["items"]
                if (cursor := page["next_cursor"]) is None:
                    break
        screen = Screen()
        if as_json:
            screen.json({"items": items})
            return
        screen.show(table(("capability", "version", "takes", "yields", "usable"), map(_row, items)))

    carry_out(work())


def _row(item: dict[str, Any]) -> list[Any]:
    consumes = item.get("consumes")
    produces = item.get("produces")
    takes = ", ".join(map(str, consumes)) if isinstance(consumes, dict | list) else ""
    yields = ", ".join(map(str, produces)) if isinstance(produces, list) else ""
    usable = "yes" if item.get("active", True) else f"no: {item.get('inactive_reason') or 'inactive'}"
    return [item.get("capability_id"), item.get("version"), takes, yields, usable]
