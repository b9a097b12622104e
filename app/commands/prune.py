"""``flex prune``: delete what is older than it is kept (P6)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.commands.options import AsJson, DatabaseUrl, carry_out


def prune(
    database_url: DatabaseUrl = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant; of every tenant without it.")] = None,
    older_than: Annotated[
        int | None,
        typer.Option(min=1, max=36_500, metavar="DAYS", help="Runs that ended so long ago, whatever the policies say."),
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=1, help="Stop after so long; the rest goes next time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is older than its tenant keeps it. A service does so by itself."""

    async def work() -> Any:
        from app.commands.database import open_database
        from app.commands.exits import FAILED, CommandError
        from app.commands.screen import Screen, table
        from app.keeping import build_pruner
        from app.system import SystemIds
        from service.pruning import Asked

        asked = Asked(tenant, older_than)
        async with open_database(database_url) as (settings, database):
            pruner = build_pruner(settings, database, SystemIds())
            tally = await (pruner.survey(asked) if dry_run else pruner.prune(asked, max_seconds))
        if tally is None:
            raise CommandError("Another process is pruning this database; try again later.", exit_code=FAILED)
        screen = Screen()
        if as_json:
            screen.json({"dry_run": dry_run, "finished": tally.finished, "rows": dict(sorted(tally.gone.items()))})
            return
        if not tally.gone:
            screen.say("Nothing is old enough to go.")
            return
        screen.show(table(("what", "would go" if dry_run else "went"), sorted(tally.gone.items())))
        if not tally.finished:
            screen.say("The time is up; there is more.")

    carry_out(work())
