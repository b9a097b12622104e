"""``delay``: goes on after a time, or at one (W5); nothing is held meanwhile (H1)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.clock import YEAR_MS, read_rfc3339
from contracts.outcome import Fail, Outcome, Sleep
from contracts.plan import KindSpec
from contracts.wire import Wire
from engine.kinds.base import Work


class DelayFields(Wire):
    """Exactly one of ``seconds`` after the node started, and ``until``, an RFC 3339 time; at most 366 days."""

    seconds: Annotated[float, Field(ge=0, le=YEAR_MS / 1_000)] | None = None
    until: Annotated[str, Field(max_length=40)] | None = None

    @field_validator("until")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                read_rfc3339(value)
            except ValueError:
                raise PydanticCustomError(
                    "bad_time", "A time is RFC 3339 with its offset, such as 2026-01-05T09:00:00Z."
                ) from None
        return value

    @model_validator(mode="after")
    def _one(self) -> DelayFields:
        if (self.seconds is None) == (self.until is None):
            raise PydanticCustomError("ambiguous_delay", "Give exactly one of seconds, until.")
        return self

    def until_ms(self, started_ms: int) -> int:
        """Return when it is over (ms since the epoch); a time that has passed is over at once."""
        if self.until is not None:
            return read_rfc3339(self.until)
        return started_ms + round((self.seconds or 0) * 1_000)


class DelayKind:
    """Waits for its time; its output is ``{"until": "<RFC 3339>"}``."""

    spec = KindSpec(name="delay", fields=DelayFields, summary="Waits for a time without holding anything.", waits=True)
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return until when; the same after a crash, since it counts from the node's start."""
        until_ms = work.own.until_ms(work.started_ms)
        if until_ms - work.started_ms > YEAR_MS:
            return Fail("time_too_far", "A delay ends within 366 days.")
        return Sleep(until_ms)


DELAY = DelayKind()
