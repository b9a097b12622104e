"""``flex runs``: list, show, tail, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from app.commands.door import Door, Place
from app.commands.opening import open_door
from app.commands.options import EXIT_CODES, AsJson, DatabaseUrl, Url, carry_out
from contracts.lifecycle import RunStatus

runs = typer.Typer(help="Look at runs; follow, pause or end one.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(help="The run's id.", show_default=False)]
_SHOWN = ("run_id", "status", "waiting_on", "created_at", "objective")


@runs.command("list")
def list_(
    url: Url = None,
    database_url: DatabaseUrl = None,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on after an earlier page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""

    async def work() -> None:
        from app.commands.screen import Screen, columns_of, table

        async with open_door(Place(url, database_url)) as door:
            page = await door.runs(
                {"status": None if status is None else status.value, "limit": limit, "cursor": cursor}
            )
        screen = Screen()
        if as_json:
            screen.json(page)
            return
        screen.show(table(_SHOWN, columns_of(page["items"], _SHOWN)))
        if page.get("next_cursor"):
            screen.say(f"More: --cursor {page['next_cursor']}", "dim")

    carry_out(work())


@runs.command()
def show(run_id: RunId, url: Url = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Show a run: where it stands, what it waits for, its answer or its error."""

    async def work() -> None:
        from app.commands.screen import Screen

        async with open_door(Place(url, database_url)) as door:
            run = await door.run(run_id)
            where = door.where
        screen = Screen()
        if as_json:
            screen.json(run)
        else:
            _show(run, screen, where)

    carry_out(work())


def _show(run: dict[str, Any], screen: Any, where: str) -> None:
    from app.commands.following import decide_hint
    from app.commands.screen import table
    from app.commands.text import clean, compact

    hidden = {"open_prompts", "output", "links"}
    rows = [(name, compact(value)) for name, value in run.items() if name not in hidden and value not in (None, [], {})]
    screen.show(table(("member", "value"), rows))
    for prompt in run.get("open_prompts") or ():
        screen.say(f"? {clean(prompt['question'])}", "bold magenta")
        for text in decide_hint(prompt, where):
            screen.say(f"  {text}")
    if run["status"] == "completed":
        screen.result(run.get("output"))


@runs.command(help=f"Follow a run to its end. {EXIT_CODES}")
def tail(
    run_id: RunId,
    url: Url = None,
    database_url: DatabaseUrl = None,
    after: Annotated[int, typer.Option(min=0, help="Begin after the frame with this id.")] = 0,
    as_json: AsJson = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Keep watching while people are awaited.")] = True,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Ask this terminal's person to decide.")] = False,
) -> None:
    """Follow a run; the help is given above."""

    async def work() -> int:
        from app.commands.following import Follower
        from app.commands.screen import Screen
        from app.commands.terminal import Keyboard

        screen = Screen()
        person = Keyboard(screen) if ask and not as_json and screen.interactive else None
        async with open_door(Place(url, database_url)) as door:
            return await Follower(door, screen, person, as_json=as_json, wait=wait).follow(run_id, after)

    carry_out(work())


Reason = Annotated[str | None, typer.Option(help="Why, for the record.")]


@runs.command()
def pause(
    run_id: RunId, url: Url = None, database_url: DatabaseUrl = None, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Let nothing more of a run be started; what runs may end."""
    _ask(Place(url, database_url), run_id, lambda door: door.pause(run_id, reason), "asked to pause", as_json=as_json)


@runs.command()
def resume(run_id: RunId, url: Url = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Let a paused run go on."""
    _ask(Place(url, database_url), run_id, lambda door: door.resume(run_id), "asked to go on", as_json=as_json)


@runs.command()
def cancel(
    run_id: RunId, url: Url = None, database_url: DatabaseUrl = None, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Ask a run to end. Whoever carries it out ends it as soon as it sees the request."""
    _ask(Place(url, database_url), run_id, lambda door: door.cancel(run_id, reason), "asked to end", as_json=as_json)


def _ask(place: Place, run_id: str, what: Callable[[Door], Awaitable[Any]], otherwise: str, *, as_json: bool) -> None:
    """Leave something for a run and show what it says of itself then."""

    async def work() -> None:
        from app.commands.screen import Screen
        from app.commands.text import clean

        async with open_door(place) as door:
            answer = await what(door)
        screen = Screen()
        if as_json:
            screen.json(answer)
            return
        awaited = ", ".join(answer.get("waiting_on", ()))
        status = answer.get("status", otherwise) + (f" for {awaited}" if awaited else "")
        screen.say(f"{clean(run_id)}: {clean(status)}")

    carry_out(work())
