"""``flex prompts``: what people are asked, and their answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.commands.door import Place
from app.commands.opening import open_door
from app.commands.options import AsJson, DatabaseUrl, Url, carry_out

prompts = typer.Typer(help="See what people are asked, and decide.", no_args_is_help=True)

PromptId = Annotated[str, typer.Argument(help="The prompt's id.", show_default=False)]
Comment = Annotated[str | None, typer.Option(help="Why.")]
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
    prompt_id: PromptId,
    action: Annotated[
        str | None, typer.Argument(help="One of the prompt's actions; without one you are asked.")
    ] = None,
    url: Url = None,
    database_url: DatabaseUrl = None,
    answer: Annotated[str | None, typer.Option(help="A file with the answer as JSON; - is stdin.")] = None,
    answer_json: Annotated[str | None, typer.Option(help="The answer as JSON text.")] = None,
    comment: Comment = None,
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


@prompts.command()
def claim(
    prompt_id: PromptId,
    url: Url = None,
    database_url: DatabaseUrl = None,
    release: Annotated[bool, typer.Option("--release", help="Free it again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take somebody's claim away (administrators).")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a prompt in hand, so that nobody else decides it."""

    async def work() -> None:
        async with open_door(Place(url, database_url)) as door:
            _say(await door.claim(prompt_id, {"release": release, "force": force}), as_json)

    carry_out(work())


@prompts.command()
def delegate(
    prompt_id: PromptId,
    to: Annotated[str, typer.Argument(help="Who gets your say: user:NAME.", show_default=False)],
    url: Url = None,
    database_url: DatabaseUrl = None,
    comment: Comment = None,
    as_json: AsJson = False,
) -> None:
    """Pass your say on a prompt on to somebody else, and give it up."""

    async def work() -> None:
        async with open_door(Place(url, database_url)) as door:
            _say(await door.delegate(prompt_id, {"to": to, "comment": comment}), as_json)

    carry_out(work())


@prompts.command()
def withdraw(
    prompt_id: PromptId,
    url: Url = None,
    database_url: DatabaseUrl = None,
    comment: Comment = None,
    as_json: AsJson = False,
) -> None:
    """Take a question back: nobody decides it any more, and its node fails."""

    async def work() -> None:
        async with open_door(Place(url, database_url)) as door:
            _say(await door.withdraw(prompt_id, {"comment": comment}), as_json)

    carry_out(work())


def _say(prompt: dict[str, Any], as_json: bool) -> None:
    from app.commands.screen import Screen
    from app.commands.text import clean

    screen = Screen()
    if as_json:
        screen.json(prompt)
        return
    who = clean(prompt["claimed_by"]) if prompt["claimed_by"] else "nobody"
    passed = "".join(f", passed on to {clean(each['to'])}" for each in prompt["delegations"][-1:])
    screen.say(f"{clean(prompt['prompt_id'])} is {prompt['status']}, claimed by {who}{passed}")


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
