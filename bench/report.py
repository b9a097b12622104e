"""The page docs/benchmarks.md: medians and spreads over the repeats, and ratios taken within the same run."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Lines = Sequence[dict[str, Any]]
EARLIER = "earlier"
"""What the name of a case of an earlier version begins with."""


def values(lines: Lines, case: str, figure: str) -> list[float]:
    """Return a figure of a case over the repeats."""
    return [line[figure] for line in lines if line["case"] == case and line.get(figure) is not None]


def cell(lines: Lines, case: str, figure: str) -> str:
    """Return ``median (min-max)``; a dash when it was not measured."""
    found = values(lines, case, figure)
    if not found:
        return "-"
    spread = f" ({_number(min(found))}-{_number(max(found))})" if len(found) > 1 else ""
    return _number(statistics.median(found)) + spread


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(lines: Lines, one: str, other: str, figure: str) -> str:
    """Return the median of ``one`` over that of ``other``."""
    a, b = values(lines, one, figure), values(lines, other, figure)
    return f"{statistics.median(a) / statistics.median(b):.2f}" if a and b else "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _rates(lines: Lines) -> str:
    rows = []
    for store in ("postgres", "sqlite"):
        for scenario in ("chain10", "fan"):
            for lanes in (1, 16, 64):
                for who in ("flex", "langgraph", "burr"):
                    case = f"{who}/{store}/{scenario}/c{lanes}"
                    if values(lines, case, "nodes_s"):
                        figures = ("nodes_s", "runs_s", "p50_ms", "p95_ms", "p99_ms", "rss_mb")
                        rows.append([who, store, scenario, str(lanes), *(cell(lines, case, name) for name in figures)])
    return table(("engine", "store", "plan", "C", "nodes/s", "runs/s", "p50 ms", "p95 ms", "p99 ms", "RSS MB"), rows)


def _growth(lines: Lines) -> str:
    rows = []
    for who, store in (("flex", "postgres"), ("flex", "sqlite"), ("langgraph", "postgres")):
        for length in (10, 100, 1_000, 10_000):
            case, base = f"{who}/{store}/chain{length}/c1", f"{who}/{store}/chain10/c1"
            if values(lines, case, "nodes_s"):
                cost = ratio(lines, base, case, "nodes_s")
                rows.append([who, store, f"{length:,}", cell(lines, case, "nodes_s"), cost])
    return table(("engine", "store", "nodes", "nodes/s", "cost per node over a 10-node chain"), rows)


def _http(lines: Lines) -> str:
    rows = []
    for store in ("postgres", "sqlite"):
        for scenario, lanes in (("first_frame", (1,)), ("answers", (1, 16, 64)), ("viewers", (1, 100, 1_000))):
            for count in lanes:
                case = f"flex/{store}/{scenario}/c{count}"
                figures = ("p50_ms", "p95_ms", "frames_s", "server_rss_mb")
                rows.append([store, scenario, str(count), *(cell(lines, case, name) for name in figures)])
    return table(("store", "measure", "C", "p50 ms", "p95 ms", "frames/s", "server RSS MB"), rows)


def _blocking(lines: Lines) -> str:
    rows = []
    for store in ("postgres", "sqlite"):
        case = f"flex/{store}/blocking/c50"
        figures = ("idle_p50_ms", "p50_ms", "ratio_p50", "idle_p95_ms", "p95_ms", "own_p50_ms", "runs_s")
        rows.append([store, *(cell(lines, case, name) for name in figures)])
    head = ("store", "idle p50 ms", "beside 50 p50 ms", "ratio", "idle p95 ms", "beside 50 p95 ms", "of the 50, p50 ms")
    return table((*head, "slow runs/s"), rows)


def _limits(lines: Lines) -> str:
    names = [f"limit/postgres/commits/c{lanes}" for lanes in (1, 16, 64)] + ["limit/sqlite/commits/c1"]
    return table(("limit", "single-row commits/s"), [[name, cell(lines, name, "commits_s")] for name in names])


def _floors(lines: Lines) -> str:
    rows = [
        [
            "nodes/s at C=16 on PostgreSQL, 10-node chain, over LangGraph's",
            "≥ 5",
            ratio(lines, "flex/postgres/chain10/c16", "langgraph/postgres/chain10/c16", "nodes_s"),
        ],
        [
            "cost per node of a 1,000-node chain over that of a 10-node chain, PostgreSQL",
            "≤ 1.3",
            ratio(lines, "flex/postgres/chain10/c1", "flex/postgres/chain1000/c1", "nodes_s"),
        ],
        [
            "the same on SQLite",
            "≤ 1.3",
            ratio(lines, "flex/sqlite/chain10/c1", "flex/sqlite/chain1000/c1", "nodes_s"),
        ],
        ["answer → next node, C=1, PostgreSQL, p50 ms", "≤ 15", cell(lines, "flex/postgres/answers/c1", "p50_ms")],
        ["answer → next node, C=1, SQLite, p50 ms", "≤ 15", cell(lines, "flex/sqlite/answers/c1", "p50_ms")],
    ]
    return table(("floor", "bound", "measured"), rows)


def _against(lines: Lines) -> str:
    """Return the section about an earlier version; nothing when none was measured."""
    rows = []
    for case in sorted({line["case"] for line in lines if line["case"].startswith(f"{EARLIER}/")}):
        now = f"flex/{case.removeprefix(f'{EARLIER}/')}"
        rate = next((name for name in ("runs_s", "frames_s") if values(lines, case, name)), None)
        figure = rate or "p50_ms"
        faster = ratio(lines, now, case, figure) if rate else ratio(lines, case, now, figure)
        name, unit = now.removeprefix("flex/"), {"runs_s": "runs/s", "frames_s": "frames/s"}.get(figure, "p50 ms")
        rows.append([name, unit, cell(lines, case, figure), cell(lines, now, figure), faster])
    if not rows:
        return ""
    head = table(("case", "figure", "earlier", "now", "times as fast"), rows)
    said = "The same cases on an earlier version (`--against`), each right beside the present one, in turns."
    return f"## Against an earlier version\n\n{said}\n\n{head}\n\n"


def write_report(lines: Lines, repeats: int, page: Path) -> None:
    """Write the page; what stands below the marker ``<!-- notes -->`` is kept."""
    notes = page.read_text().partition("<!-- notes -->")[2] if page.exists() else "\n"
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    text = f"""# Benchmarks

Written by `make bench` on {now}: {where}; {repeats} repeats, median (minimum-maximum).
Each case is a process of its own on a fresh database; PostgreSQL and the client share the cores.
PostgreSQL runs with `fsync` and `synchronous_commit` on, SQLite with `synchronous=FULL`.
Only ratios within one run mean anything on another machine.

## Floors

{_floors(lines)}

## Durable plans of no-op nodes

flex is asked through `service.runs.submit`, without a viewer.
LangGraph runs with `durability="sync"` and its own savers, Burr with its own PostgreSQL persister.
`chain10` is ten nodes in a row, `fan` is 1 → 20 → 1.

{_rates(lines)}

## Growth

{_growth(lines)}

## Over HTTP

`first_frame`: a planned envelope posted on a new connection, until its first frame.
`answers`: a decision posted for a run that was evicted from memory, until the next node's work starts.
`viewers`: frames delivered to C viewers of one run.

{_http(lines)}

## Beside agents that block

Time to the first frame of a planned envelope, on an idle service and beside 50 runs of a synchronous agent.
The agent is one PocketFlow node that blocks its thread for 200 ms.

{_blocking(lines)}

{_against(lines)}## The machine

{_limits(lines)}

<!-- notes -->{notes}"""
    page.write_text(text)
