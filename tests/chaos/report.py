"""The table of the reliability page: a row per fault and database, replaced one by one as scenarios are repeated."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.campaign import Result
from tests.chaos.faults import BY_NAME
from tests.chaos.recovery import percentile

BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"
HEAD = (
    "| fault | database | runs | struck | violations | recovery p50 ms | recovery p99 ms | lease s | seed |",
    "|---|---|--:|--:|--:|--:|--:|--:|--:|",
)
NOTHING = "-"
"""where there is nothing to recover from"""
Key = tuple[str, str]


def line(result: Result) -> str:
    """A scenario in one line, for a terminal."""
    half, most = _figures(result)
    return (
        f"{result.fault:8} {result.database:10} {result.runs} runs in {result.seconds:.0f} s, struck {result.injected},"
        f" {len(result.violations)} violations, recovery p50 {half} p99 {most} ms of {len(result.recoveries)},"
        f" {result.statuses}"
    )


def table(results: Sequence[Result], kept: Mapping[Key, str] | None = None) -> str:
    """Markdown of these results; rows of scenarios that were not repeated stay as they were."""
    rows = {**(kept or {}), **{(result.fault, result.database): _row(result) for result in results}}
    order = list(BY_NAME)
    ordered = sorted(rows, key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key[1] != "sqlite"))
    return "\n".join([*HEAD, *(rows[key] for key in ordered)]) + "\n"


def write(path: Path, results: Sequence[Result]) -> None:
    """Put the table between the markers of a page; a file without markers becomes the table."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN not in text or END not in text:
        path.write_text(table(results), encoding="utf-8")
        return
    before, rest = text.split(BEGIN, 1)
    middle, after = rest.split(END, 1)
    path.write_text(f"{before}{BEGIN}\n{table(results, _rows(middle))}{END}{after}", encoding="utf-8")


def _rows(text: str) -> dict[Key, str]:
    """The rows that are there, by fault and database."""
    cells = {row: [cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row[:1] == "|"}
    named = {name.partition(":")[0]: name for name in BY_NAME}
    return {
        (each[0].partition(":")[0], each[1]): row for row, each in cells.items() if each[0].partition(":")[0] in named
    }


def _row(result: Result) -> str:
    half, most = _figures(result)
    says = BY_NAME[result.fault].says if result.fault in BY_NAME else ""
    cells = (
        f"{result.fault}: {says}", result.database, f"{result.runs:,}", f"{result.injected:,}",
        str(len(result.violations)), half, most, f"{result.lease_seconds:g}", str(result.seed),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _figures(result: Result) -> tuple[str, str]:
    half, most = (percentile(result.recoveries, share) for share in (0.5, 0.99))
    return NOTHING if half is None else f"{half:,.0f}", NOTHING if most is None else f"{most:,.0f}"
