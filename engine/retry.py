"""When the next attempt starts: exponential backoff with full jitter (F6)."""

from __future__ import annotations

from contracts.envelope import RetryPolicy


def delay_ms(policy: RetryPolicy, attempt: int, chance: float) -> int:
    """Return the wait before the attempt after ``attempt`` (1-based): ``chance`` in [0, 1) of the doubled base.

    At least half of it is kept, so that a burst of failures spreads out without hammering at once.
    """
    ceiling = min(policy.max_ms, policy.base_ms * (1 << min(attempt - 1, 30)))
    return round(ceiling * (0.5 + chance / 2))
