"""The no-op that the benchmark runs: a file for ``--capabilities``."""

import time

from capabilities import capability, facet

ANYTHING = facet("bench_value", True)


@capability("bench.noop", consumes={"value?": "bench_value"}, produces="bench_value")
async def noop(value: object = None) -> object:
    """Hand the value on."""
    return value


@capability("bench.mark", consumes={"value?": "bench_value"}, produces="bench_value")
async def mark(value: object = None) -> object:
    """Say when it started, in nanoseconds of the machine's monotonic clock."""
    return time.monotonic_ns()
