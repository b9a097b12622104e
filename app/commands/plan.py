"""``flex plan``: what would be done, and why; nothing is executed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.commands.door import Place
from app.commands.opening import open_door
from app.commands.options import AsJson, CapabilityFiles, DatabaseUrl, Url, carry_out


def plan(
    envelope: Annotated[
        str, typer.Argument(help="A file with a TaskEnvelope as JSON; - is stdin.", show_default=False)
    ],
    url: Url = None,
    database_url: DatabaseUrl = None,
    capabilities: CapabilityFiles = None,
    as_json: AsJson = False,
) -> None:
    """Show the plan of an envelope and its reasons, or why there is none and what would help. Ends with 1 then."""

    async def work() -> int:
        from app.commands.exits import FAILED, OK
        from app.commands.screen import Screen
        from app.commands.terminal import read_json_file

        given = read_json_file(envelope)
        async with open_door(Place(url, database_url, tuple(capabilities or ()))) as door:
            answer = await door.plan(given)
        screen = Screen()
        if as_json:
            screen.json(answer)
        else:
            _show(answer, screen)
        return OK if answer.get("plan") else FAILED

    carry_out(work())


def _show(answer: dict[str, Any], screen: Any) -> None:
    from rich.text import Text

    from app.commands.plan_view import finding_lines, next_steps, plan_notes, plan_tree

    found = answer.get("plan")
    findings = list(answer.get("findings") or ())
    if found:
        screen.show(plan_tree(found), *(Text(note) for note in plan_notes(found)))
        findings = findings or list(found.get("findings") or ())
    else:
        screen.error("There is no plan for this.")
    for text, style in finding_lines(findings):
        screen.say(text, style)
    if not found:
        screen.say("What you can do:", "bold")
        for step in next_steps(findings):
            screen.say(f"  - {step}")
