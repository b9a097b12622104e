"""The real world behind the ports: clocks, ids, chance, and the crash points that tests may arm (house rule 6)."""

from __future__ import annotations

import base64
import gc
import hmac
import os
import random
import secrets
import signal
import time

from contracts.ids import ulid
from contracts.ports import CRASH_POINTS


def calm_collector() -> None:
    """Let the garbage collector look at long-lived objects rarely.

    A service's plans, schemas and modules live as long as it does; walking them on every full collection took a quarter
    of the time of a busy process here.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


class SystemClock:
    """This machine's clocks."""

    def now_ms(self) -> int:
        """Return wall time, ms since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds since some start; never goes back."""
        return time.monotonic()


class SystemIds:
    """Ids from time and randomness."""

    def new(self, prefix: str) -> str:
        """Return ``prefix_`` and 26 characters."""
        return f"{prefix}_{ulid(time.time_ns() // 1_000_000, secrets.randbits(80))}"


class HmacSigner:
    """Signs with HMAC-SHA256 under one key; the purpose is part of what is signed (RFC 2104)."""

    def __init__(self, key: str) -> None:
        """Take the key, at least 32 characters of it random."""
        self._key = key.encode()

    def sign(self, purpose: str, text: str) -> str:
        """Return 43 characters of URL-safe base 64."""
        digest = hmac.digest(self._key, f"{purpose}\0{text}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def holds(self, purpose: str, text: str, signature: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.sign(purpose, text).encode(), signature.encode())


def fresh_key() -> str:
    """Return a new key of 256 bits."""
    return secrets.token_urlsafe(32)


class SystemRandom:
    """Chance for jitter; nothing secret depends on it."""

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311  # spreads retries, guards nothing


class KillAt:
    """Kills this process the n-th time a named point is reached: ``FLEX_CRASH_AT=name`` or ``name:n`` (tests only)."""

    def __init__(self, text: str) -> None:
        """Read the setting; raises ``ValueError`` for a name that is no crash point."""
        name, _, count = text.partition(":")
        if name not in CRASH_POINTS:
            raise ValueError(f"{name} is no crash point; there are {', '.join(CRASH_POINTS)}")
        self._name, self._left = name, int(count or "1")

    def reach(self, point: str) -> None:
        """Count down, then die as by ``kill -9``: nothing is flushed, nothing is closed."""
        if point == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class NoCrash:
    """Nothing happens at any point."""

    def reach(self, point: str) -> None:
        """Do nothing."""
