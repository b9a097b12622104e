"""The ``flex`` command. Each noun is a file in ``app/commands``; what is heavy is imported when it is used."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from app.commands.admin import capabilities, db
from app.commands.agents import agents
from app.commands.audit import audit
from app.commands.options import EXIT_CODES
from app.commands.plan import plan
from app.commands.prompts import prompts
from app.commands.prune import prune
from app.commands.run import HELP as RUN_HELP
from app.commands.run import run
from app.commands.runs import runs
from app.commands.serve import serve

cli = typer.Typer(
    name="flex",
    help=f"flex plans, runs and asks people. {EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.command()(serve)
cli.command(help=RUN_HELP)(run)
cli.command()(plan)
cli.add_typer(runs, name="runs")
cli.add_typer(prompts, name="prompts")
cli.command()(capabilities)
cli.command()(agents)
cli.add_typer(audit, name="audit")
cli.command()(prune)
cli.add_typer(db, name="db")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version("flex"))
        raise typer.Exit


@cli.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Take the options that every command has; the help is given above."""


def main() -> None:
    """Run the command line; ends the process with the codes of docs/cli.md."""
    cli()
