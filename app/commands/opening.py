"""Opening the door that a command was told to use; each kind is imported only when it is."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from app.commands.door import Door, Place


def open_door(place: Place, *, work: bool = False) -> AbstractAsyncContextManager[Door]:
    """Return the door to ``place``. ``work`` lets this process carry out runs itself when it is a database's."""
    if place.url is not None:
        from app.commands.remote import open_remote

        return open_remote(place.url)
    from app.commands.embedded import open_embedded

    return open_embedded(place, work=work)
