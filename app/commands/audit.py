"""``flex audit``: verify the chain of audit records, export it (H9)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.commands.options import AsJson, DatabaseUrl, carry_out

audit = typer.Typer(help="Verify who did what, and export it.", no_args_is_help=True)

Head = Annotated[
    str | None,
    typer.Option(
        metavar="HASH", help="A hash that was noted earlier: it must still be in the chain. Finds a chain cut short."
    ),
]


class Format(StrEnum):
    """How records are exported."""

    JSONL = "jsonl"


@audit.command()
def verify(
    database_url: DatabaseUrl = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant; every tenant without it.")] = None,
    from_seq: Annotated[int | None, typer.Option(min=1, help="Begin at this record.")] = None,
    head: Head = None,
    file: Annotated[
        Path | None, typer.Option(metavar="AUDIT.jsonl", help="Verify an exported file instead of a database.")
    ] = None,
    excerpt: Annotated[
        bool, typer.Option("--excerpt", help="The file holds chosen records only: check each by itself.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify the chain and say which record is the first that is not what was sealed. Ends with 1 if there is one."""

    async def work() -> int:
        from app.commands.auditing import show_verdicts, verify_database, verify_file

        if file is not None:
            found = verify_file(file, from_seq, head, excerpt=excerpt)
        else:
            found = await verify_database(database_url, tenant, from_seq, head)
        return show_verdicts(found, as_json=as_json)

    carry_out(work())


@audit.command()
def export(
    database_url: DatabaseUrl = None,
    tenant: Annotated[str, typer.Option(help="Whose records.")] = "default",
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only records of this run.")] = None,
    format: Annotated[Format, typer.Option(help="One JSON document per line.")] = Format.JSONL,
) -> None:
    """Write the sealed records to stdout in the order of their chain, with its hashes."""

    async def work() -> int:
        from app.commands.auditing import export_lines

        return await export_lines(database_url, tenant, {} if run is None else {"run_id": run})

    carry_out(work())
