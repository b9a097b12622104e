"""A SQLAlchemy Core construct compiled once per dialect to driver SQL: calling it costs no SQLAlchemy at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

Row = Sequence[Any]
"""A result row: a tuple on SQLite, an ``asyncpg.Record`` on PostgreSQL; both are read by position."""

Construct = sa.Select[Any] | sa.CompoundSelect[Any] | sa.sql.dml.UpdateBase | sa.TextClause

SQLITE: Final[Dialect] = sqlite.dialect(paramstyle="qmark")
POSTGRESQL: Final[Dialect] = asyncpg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
DIALECTS: Final[Mapping[str, Dialect]] = {"sqlite": SQLITE, "postgresql": POSTGRESQL}


def text(name: str) -> sa.BindParameter[str]:
    """Return a text parameter that every call must give."""
    return sa.bindparam(name, type_=sa.Text, required=True)


def number(name: str) -> sa.BindParameter[int]:
    """Return a whole-number parameter that every call must give."""
    return sa.bindparam(name, type_=sa.BigInteger, required=True)


class Compiled:
    """SQL of one dialect and the order in which its parameters stand."""

    __slots__ = ("_defaults", "_order", "_required", "sql")

    def __init__(self, construct: Construct, dialect: Dialect) -> None:
        compiled = construct.compile(dialect=dialect)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"not positional SQL: {construct}")
        self.sql: Final = str(compiled)
        self._order: Final = tuple(compiled.positiontup or ())
        required = {name for name, bind in compiled.binds.items() if bind.required}
        self._required: Final = frozenset(required)
        self._defaults: Final = {name: bind.value for name, bind in compiled.binds.items() if name not in required}

    def bind(self, params: Mapping[str, Any]) -> list[Any]:
        """Return the arguments in order; raise ``TypeError`` for a missing or unknown name."""
        if params.keys() != self._required:
            raise TypeError(f"parameters {sorted(params)} given, {sorted(self._required)} needed")
        defaults = self._defaults
        return [params[name] if name in params else defaults[name] for name in self._order]


class Statement:
    """One construct in both dialects, ``sqlite`` and ``postgresql``: each compiled when it is first used.

    Hundreds of statements would else be compiled at every start, most of them for the other database.
    A construct that differs by dialect is given as a function of the dialect's name (``sqlite``, ``postgresql``); the
    function lives in ``store/dialect.py`` with its why.
    """

    __slots__ = ("_construct", "postgresql", "sqlite")

    postgresql: Compiled
    sqlite: Compiled

    def __init__(self, construct: Construct | Callable[[str], Construct]) -> None:
        self._construct: Final = construct

    def __getattr__(self, name: str) -> Compiled:
        """Compile for a dialect; Python asks only while the slot is empty."""
        dialect = DIALECTS.get(name)
        if dialect is None:
            raise AttributeError(name)
        construct = self._construct
        compiled = Compiled(construct(name) if callable(construct) else construct, dialect)
        setattr(self, name, compiled)
        return compiled
