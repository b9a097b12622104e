"""``flex serve``: the service itself."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.door import Place
from app.commands.exits import FAILED, REFUSED, CommandError
from app.commands.options import CapabilityFiles, DatabaseUrl

Host = Annotated[str | None, typer.Option(help="Address to listen on; else FLEX_HOST, else 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; else FLEX_PORT, else 8000.")]


def serve(
    host: Host = None, port: Port = None, database_url: DatabaseUrl = None, capabilities: CapabilityFiles = None
) -> None:
    """Serve HTTP and carry out runs; an empty database gets its tables first. SIGTERM and Ctrl-C drain and end."""
    from app.commands.configured import settings_of
    from app.commands.screen import Screen
    from app.serve import run
    from app.settings import InsecureBind
    from app.wiring import open_flex
    from capabilities.loading import CapabilityFileError
    from capabilities.registry import RegistryConflict
    from contracts.errors import FlexError

    place = Place(database_url=database_url, capabilities=tuple(capabilities or ()))
    try:
        run(settings_of(place, host=host, port=port), open_flex)
    except (CommandError, InsecureBind, CapabilityFileError, RegistryConflict) as error:
        Screen().error(str(error))
        raise typer.Exit(REFUSED) from None
    except (FlexError, OSError) as error:
        Screen().error(str(error))
        raise typer.Exit(FAILED) from None
