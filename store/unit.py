"""What a repository is handed: something to read with, or one write transaction.

Both backends implement these; a repository never commits and never learns which database it speaks to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, ClassVar, Final, Protocol, TypeVar

from contracts.ports import CRASH_POINTS, CrashPoints
from store.statement import Row, Statement

R_co = TypeVar("R_co", covariant=True)


class Refused(Exception):
    """The database refused the data itself: a broken constraint, text or a number that it cannot hold."""


class Reader(ABC):
    """Reads.

    Every method raises ``StoreUnavailable`` when the database does not answer and :class:`Refused` when it refuses the
    data.
    """

    @abstractmethod
    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        """Run the statement and return its rows."""

    async def fetch_one(self, statement: Statement, **params: Any) -> Row | None:
        """Run the statement and return its first row, or None."""
        rows = await self.fetch(statement, **params)
        return rows[0] if rows else None


class Unit(Reader):
    """One write transaction: committed on a clean exit, rolled back on an exception.

    Inside it nothing but the unit may be awaited: on SQLite its awaits never suspend, and that is what keeps other
    writers of this process out.
    """

    dialect: ClassVar[str]
    """``sqlite`` or ``postgresql``"""

    @abstractmethod
    async def execute(self, statement: Statement, **params: Any) -> int:
        """Run the statement and return the number of rows it changed."""


class Opening(Protocol[R_co]):
    """What ``async with`` takes: ``database.unit()`` and ``database.reader()`` return one."""

    async def __aenter__(self) -> R_co:
        """Begin."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End."""


class Quiet:
    """Crash points outside of tests: nothing happens there."""

    def reach(self, point: str) -> None:
        """Do nothing."""


_KNOWN: Final = frozenset(CRASH_POINTS)


class Places:
    """The crash points of a named transaction: ``begin``, ``before_commit``, ``after_commit``, if listed."""

    __slots__ = ("_crash", "_name")

    def __init__(self, crash: CrashPoints, name: str | None) -> None:
        if name is not None and not any(point.startswith(f"{name}.") for point in _KNOWN):
            raise ValueError(f"no crash point is named {name!r}")
        self._crash, self._name = crash, name

    def reach(self, place: str) -> None:
        """Reach ``name.place`` if the unit has a name and that point is listed."""
        if self._name is not None and (point := f"{self._name}.{place}") in _KNOWN:
            self._crash.reach(point)
