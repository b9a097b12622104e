"""Closed loops, percentiles and the one JSON line that every case prints."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any


def percentile(values: list[float], share: float) -> float | None:
    """Return the value below which ``share`` of the values lie; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def milliseconds(values: list[float], share: float) -> float | None:
    """Return a percentile of seconds in milliseconds."""
    value = percentile(values, share)
    return None if value is None else round(value * 1_000, 3)


async def drive(one: Callable[[int], Awaitable[None]], lanes: int, seconds: float) -> tuple[list[float], float]:
    """Call ``one`` back to back in ``lanes`` lanes for ``seconds``; return the latencies and the wall time."""
    latencies: list[float] = []
    number = iter(range(10**9))
    began = time.perf_counter()
    last = began

    async def lane() -> None:
        nonlocal last
        while (start := time.perf_counter()) < began + seconds:
            await one(next(number))
            last = time.perf_counter()
            latencies.append(last - start)

    await asyncio.gather(*[lane() for _ in range(lanes)])
    return latencies, last - began


def summary(latencies: list[float], wall: float, nodes: int) -> dict[str, Any]:
    """Return rates and percentiles of a closed loop of runs of ``nodes`` nodes."""
    runs = len(latencies)
    return {
        "runs": runs,
        "runs_s": round(runs / wall, 1),
        "nodes_s": round(runs * nodes / wall, 1),
        "p50_ms": milliseconds(latencies, 0.5),
        "p95_ms": milliseconds(latencies, 0.95),
        "p99_ms": milliseconds(latencies, 0.99),
    }


def emit(**figures: Any) -> None:
    """Print the case's one line; ``rss_mb`` is the peak memory of this process."""
    figures["rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    print(json.dumps(figures), flush=True)


def arguments(**defaults: Any) -> argparse.Namespace:
    """Read ``--name value`` with these defaults and their types."""
    parser = argparse.ArgumentParser()
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()
