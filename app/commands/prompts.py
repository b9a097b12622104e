"""``flex prompts``: what people are asked, and their answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.commands.door import Place
from app.commands.opening import open_door
from app.commands.options import AsJson, DatabaseUrl, Url, carry_out

prompts = typer.Typer(help="See what people are asked, and decide.", no_args_is_help=True)

_SHOWN = ("prompt_id", "kind", "status", "actions", "run_id", "due_at", "question")


@prompts.command("list")
def list_(
    url: Url = None,
    database_url: DatabaseUrl = None,
    view: Annotated[str | None, typer.Option(help="mine, unassigned, overdue or done.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Only this run's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on after an earlier page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List open prompts, newest first."""

    async def work() -> None:
        from app.commands.screen import Screen, columns_of, table

        async with open_door(Place(url, database_url)) as door:
            page = await door.prompts({"view": view, "run_id": run_id, "limit": limit, "cursor": cursor})
        screen = Screen()
        if as_json:
            screen.json(page)
            return
        screen.show(table(_SHOWN, columns_of(page["items"], _SHOWN)))
        if page.get("next_cursor"):
            screen.say(f"More: --cursor {page['next_cursor']}", "dim")

    carry_out(work())


@prompts.command()
def decide(
    prompt_id: Annotated[str, typer.Argument(help="The prompt's id.", show_default=False)],
    action: Annotated[
        str | None, typer.Argument(help="One of the prompt's actions; without one you are asked.")
    ] = None,
    url: Url = None,
    database_url: DatabaseUrl = None,
    answer: Annotated[str | None, typer.Option(help="A file with the answer as JSON; - is stdin.")] = None,
    answer_json: Annotated[str | None, typer.Option(help="The answer as JSON text.")] = None,
    comment: Annotated[str | None, typer.Option(help="Why.")] = None,
    bound_hash: Annotated[str | None, typer.Option(help="Decide only what has this hash.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide a prompt. A running service goes on with the run at once."""

    async def work() -> None:
        from app.commands.screen import Screen
        from app.commands.text import clean

        decision = _given(action, answer, answer_json, comment, bound_hash)
        screen = Screen()
        async with open_door(Place(url, database_url)) as door:
            if decision is None:
                decision = await _asked(await door.prompt(prompt_id), screen)
            decided = await door.decide(prompt_id, decision)
        if as_json:
            screen.json(decided)
        else:
            said = f"{clean(decided['decision']['action'])} by {clean(decided['decision']['decided_by'])}"
            prompt, run = decided["prompt"]["status"], decided["run"]["status"]
            screen.say(f"{clean(prompt_id)}: {said}; the prompt is {prompt}, the run {run}")

    carry_out(work())


def _given(
    action: str | None, answer: str | None, answer_json: str | None, comment: str | None, bound_hash: str | None
) -> dict[str, Any] | None:
    """Return the decision that the options spell out, None when the person is to be asked."""
    from app.commands.exits import CommandError
    from app.commands.terminal import json_text, read_json_file

    if answer is not None and answer_json is not None:
        raise CommandError("Give the answer once: --answer or --answer-json.")
    if action is None:
        if answer is not None or answer_json is not None:
            raise CommandError("An answer needs its action: flex prompts decide PROMPT_ID ACTION --answer FILE.")
        return None
    decision: dict[str, Any] = {"action": action}
    if answer is not None:
        decision["answer"] = read_json_file(answer)
    if answer_json is not None:
        decision["answer"] = json_text(answer_json, "--answer-json")
    given = {"comment": comment, "bound_hash": bound_hash}
    return decision | {name: value for name, value in given.items() if value is not None}


async def _asked(prompt: dict[str, Any], screen: Any) -> dict[str, Any]:
    from app.commands.exits import CommandError
    from app.commands.terminal import Keyboard, decision_for

    if prompt["status"] != "open":
        raise CommandError(f"{prompt['prompt_id']} is {prompt['status']}.")
    if not screen.interactive:
        raise CommandError(
            f"Say what you decide: flex prompts decide {prompt['prompt_id']} {'|'.join(prompt['actions'])}"
        )
    decision = await decision_for(prompt, Keyboard(screen), screen)
    if decision is None:
        raise CommandError("Nothing was decided.")
    return dict(decision)
