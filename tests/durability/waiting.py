"""Waiting for conditions, never for time: every wait has a deadline and says what it waited for."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

LOOK_SECONDS = 0.01


async def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true value of ``condition`` (awaited if need be); AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        value = await found if isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(LOOK_SECONDS)
