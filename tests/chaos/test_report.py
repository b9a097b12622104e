"""The table on the reliability page: written between its markers, row by row."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import arguments, scenarios
from tests.chaos.campaign import Result
from tests.chaos.judged import Violation
from tests.chaos.report import BEGIN, END, line, table, write


def result(fault: str, database: str, **more: object) -> Result:
    found = Result(fault, database, runs=1_000, seed=1, lease_seconds=2.0, injected=20)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_the_table_says_what_was_measured() -> None:
    found = result("kill", "sqlite", recoveries=[100.0, 200.0, 1_500.0], violations=[Violation("ended", "run", "lost")])
    row = table([found]).splitlines()[-1]
    assert row.startswith("| kill: SIGKILL")
    assert row.endswith("| sqlite | 1,000 | 20 | 1 | 200 | 1,500 | 2 | 1 |")
    assert "1 violations" in line(found)


def test_what_was_not_repeated_stays(tmp_path: Path) -> None:
    """A fault that is played again replaces its own row of its own database; nothing else of the page changes."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\n{END}\n\nafter\n")
    write(page, [result("zombie", "postgresql"), result("kill", "sqlite", injected=3)])
    write(page, [result("kill", "sqlite", injected=4)])
    text = page.read_text()
    assert text.startswith("before\n\n<!--")
    assert text.endswith("-->\n\nafter\n")
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith(("| kill", "| zombie"))]
    assert [(row[0].partition(":")[0], row[1], row[3]) for row in rows] == [
        ("| kill", "sqlite", "4"), ("| zombie", "postgresql", "20"),
    ]  # fmt: skip


def test_a_file_without_markers_becomes_the_table(tmp_path: Path) -> None:
    page = tmp_path / "new.md"
    write(page, [result("cut", "postgresql")])
    assert page.read_text() == table([result("cut", "postgresql")])


def test_every_fault_is_played_where_it_exists() -> None:
    played = {(fault.name, database) for fault, database in scenarios(arguments([]))}
    assert {("kill", "sqlite"), ("kill", "postgresql"), ("outage", "postgresql")} <= played
    assert ("outage", "sqlite") not in played
    only = list(scenarios(arguments(["--fault", "busy", "--database", "sqlite"])))
    assert [(fault.name, database) for fault, database in only] == [("busy", "sqlite")]


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(SystemExit):
        arguments(["--fault", "earthquake"])
