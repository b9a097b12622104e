"""Settings from the environment and a command's options, refused in sentences."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from app.commands.door import Place
from app.commands.exits import CommandError
from app.settings import PREFIX, Settings


def settings_of(place: Place, **others: Any) -> Settings:
    """Return the settings; an option that was given wins over its ``FLEX_`` variable. Raises CommandError."""
    given = {"database_url": place.database_url, "capabilities": place.capabilities or None, **others}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        found = [f"  {PREFIX}{_name(detail['loc'])}: {detail['msg']}" for detail in error.errors(include_url=False)]
        raise CommandError("\n".join(["The settings cannot be used.", *found])) from error


def _name(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else ""
