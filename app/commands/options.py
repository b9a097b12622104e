"""Options that several commands share, and how a command is run: errors as sentences, exit codes (docs/cli.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from app.commands.exits import CANCELLED, FAILED, INTERRUPTED, OK, REFUSED, WAITING, CommandError

Url = Annotated[
    str | None, typer.Option("--url", help="Talk to the flex service at this address instead of a database.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="sqlite+aiosqlite:///PATH or postgresql+asyncpg://…; else FLEX_DATABASE_URL."),
]
CapabilityFiles = Annotated[
    list[str] | None,
    typer.Option("--capabilities", metavar="FILE.py", help="A Python file with more capabilities; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout for programs, nothing else.")]

EXIT_CODES = (
    f"Exit codes: {OK} complete, {FAILED} failed, {REFUSED} refused, {WAITING} waiting for people, "
    f"{CANCELLED} cancelled, {INTERRUPTED} interrupted."
)


def carry_out(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command's coroutine and end with its exit code; an expected error becomes sentences on stderr.

    Raises ``typer.Exit`` always but on success with code 0.
    """
    from app.commands.screen import Screen

    try:
        code = asyncio.run(work) or OK
    except CommandError as error:
        Screen().error(error.message)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        Screen().say("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None
    if code:
        raise typer.Exit(code)
