"""The database itself, for commands that look after it; no run is carried out and nothing is migrated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.commands.configured import settings_of
from app.commands.door import Place
from app.commands.exits import CommandError, refused
from app.logs import configure
from app.settings import Settings
from app.system import SystemClock
from contracts.errors import FlexError
from store.connect import Database
from store.migrate import is_current, is_there


@asynccontextmanager
async def open_database(database_url: str | None) -> AsyncIterator[tuple[Settings, Database]]:
    """Open the database that is there, with the newest schema; errors inside become sentences. Raises CommandError."""
    settings = settings_of(Place(database_url=database_url))
    configure(settings.log_level if "log_level" in settings.model_fields_set else "warning", settings.log_format)
    if not is_there(settings.database_url):
        raise CommandError(f"There is no database at {settings.database_url}.")
    try:
        if not await asyncio.to_thread(is_current, settings.database_url):
            raise CommandError("The database does not have the newest schema. Run `flex db upgrade`.")
        database = await Database.open(settings.database_url, clock=SystemClock(), synchronous=settings.synchronous)
        try:
            yield settings, database
        finally:
            await database.close()
    except FlexError as error:
        raise refused(error.as_problem(None)) from error
