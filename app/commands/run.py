"""``flex run``: an envelope in, a timeline while it goes on, the validated answer out."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.door import Json, Place
from app.commands.opening import open_door
from app.commands.options import EXIT_CODES, AsJson, CapabilityFiles, DatabaseUrl, Url, carry_out

HELP = f"""Run an envelope in this process (or at --url) and print its answer.

The timeline goes to stderr and the answer to stdout. On a terminal the prompts are asked here; elsewhere the command
prints how to decide them and ends with code 3, unless --wait is given. {EXIT_CODES}"""


def run(
    envelope: Annotated[
        str, typer.Argument(help="A file with a TaskEnvelope as JSON; - is stdin.", show_default=False)
    ],
    url: Url = None,
    database_url: DatabaseUrl = None,
    capabilities: CapabilityFiles = None,
    as_json: AsJson = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until other people have decided.")] = False,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Ask this terminal's person to decide.")] = True,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: the same key and envelope is the same run.")
    ] = None,
) -> None:
    """Parse the options; the help is ``HELP``."""
    from app.commands.terminal import read_json_file

    async def work() -> int:
        place = Place(url, database_url, tuple(capabilities or ()))
        return await _run(place, read_json_file(envelope), key=key, as_json=as_json, wait=wait, ask=ask)

    carry_out(work())


async def _run(place: Place, envelope: Json, *, key: str | None, as_json: bool, wait: bool, ask: bool) -> int:
    from app.commands.following import Follower
    from app.commands.screen import Screen
    from app.commands.terminal import Keyboard

    screen = Screen()
    person = Keyboard(screen) if ask and not as_json and screen.interactive else None
    async with open_door(place, work=True) as door:
        run_id = await door.submit(envelope, key)
        if not as_json:
            screen.say(f"run {run_id}", "dim")
        return await Follower(door, screen, person, as_json=as_json, wait=wait).follow(run_id)
