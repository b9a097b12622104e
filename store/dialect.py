"""Every difference between the two databases, each with its why.

The journal's statements are texts, not Core: on PostgreSQL one statement writes a whole batch (round trips, not rows,
are the cost there), on SQLite a batch is many cheap statements in one inline transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects import sqlite

from contracts.lifecycle import NODE_TERMINAL, RUN_ACTIVE
from store import tables
from store.history_tables import history

# A process that was stopped or cut off in the middle of a transaction keeps its locks, and who buries it would wait.
_ABANDONED: Final[Mapping[str, str]] = {"idle_in_transaction_session_timeout": "2000"}

SESSION: Final[Mapping[str, str]] = {"application_name": "flex", "jit": "off", **_ABANDONED}
"""Every query is short: compiling it would cost more than running it."""

JOURNAL_SESSION: Final[Mapping[str, str]] = {
    "application_name": "flex-journal",
    "jit": "off",
    **_ABANDONED,
    # Its statements reach rows by primary key only. They are planned while the tables may still be empty, and a plan
    # made then would scan; in index order it also locks run rows in id order.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
}


def skip_locked(dialect: str, query: sa.Select[Any]) -> sa.Select[Any]:
    """Lock the rows and leave out those that others hold. SQLite has one writer at a time: nothing to lock or skip."""
    return query.with_for_update(skip_locked=True) if dialect == "postgresql" else query


def locking(dialect: str, query: sa.Select[Any]) -> sa.Select[Any]:
    """Lock the rows until the commit. On SQLite a unit already holds the only write lock."""
    return query.with_for_update() if dialect == "postgresql" else query


def least(dialect: str, *values: Any) -> sa.ColumnElement[Any]:
    """Return the smallest value: LEAST on PostgreSQL; SQLite's MIN with several arguments is the same."""
    return sa.func.least(*values) if dialect == "postgresql" else sa.func.min(*values)


def insert_into(dialect: str, table: sa.Table) -> pg.Insert | sqlite.Insert:
    """Return an insert that can take ``ON CONFLICT``: the same on both, but each dialect has its own construct."""
    return pg.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def row_address(dialect: str, table: sa.Table) -> sa.ColumnElement[Any]:
    """Return the column by which a chosen row is found again without its key: each database calls it differently."""
    return sa.literal_column(f"{table.name}.{'ctid' if dialect == 'postgresql' else 'rowid'}")


def delete_some(
    dialect: str, table: sa.Table, where: Callable[[sa.FromClause], sa.ColumnElement[bool]], most: sa.BindParameter[int]
) -> sa.Delete:
    """Delete at most so many of the rows that ``where`` describes, reaching them by an index, never by a scan.

    On PostgreSQL by their addresses as an array: any join could be planned as a scan of the table. SQLite's tables
    without rowid have no addresses: there by their keys.
    """
    inner = table.alias("doomed")
    if dialect == "postgresql":
        address: sa.ColumnElement[Any] = sa.literal_column("doomed.ctid")
        addresses = sa.select(address).select_from(inner).where(where(inner)).limit(most)
        among_them = sa.func.any(sa.func.array(addresses.scalar_subquery()))
        return sa.delete(table).where(row_address(dialect, table) == among_them)
    key = [column.name for column in table.primary_key]
    keys = sa.select(*(inner.c[name] for name in key)).where(where(inner)).limit(most)
    return sa.delete(table).where(sa.tuple_(*(table.c[name] for name in key)).in_(keys))


class IdList(sa.types.TypeDecorator[Sequence[str]]):
    """A list of ids as one parameter: an array on PostgreSQL. SQLite has no arrays: there it is a JSON text."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        """Return the type that the dialect has."""
        return dialect.type_descriptor(pg.ARRAY(sa.Text) if dialect.name == "postgresql" else sa.Text())


def ids_among(dialect: str, column: sa.ColumnElement[str], name: str) -> sa.ColumnElement[bool]:
    """Return «column is one of the ids in parameter ``name``»; give it as :func:`id_list`."""
    given = sa.bindparam(name, type_=IdList(), required=True)
    if dialect == "postgresql":
        return column == sa.func.any(given)
    return column.in_(sa.select(sa.func.json_each(given).table_valued("value").c.value))


def id_list(dialect: str, ids: Sequence[str]) -> Any:
    """Return the parameter of :func:`ids_among`."""
    return list(ids) if dialect == "postgresql" else json.dumps(list(ids))


def has_words(dialect: str, words: sa.ColumnElement[str], many: int) -> sa.ColumnElement[bool]:
    """Return «each of so many words begins one of ``words``» (words with a space between them); see `word_query`.

    PostgreSQL has an index for it (``ix_history_words``, spelled alike). SQLite compares row by row.
    """
    if dialect == "postgresql":
        vector = sa.func.array_to_tsvector(sa.func.string_to_array(words, sa.literal_column("' '")))
        return vector.bool_op("@@")(sa.cast(sa.bindparam("words", type_=sa.Text, required=True), pg.TSQUERY))
    spaced, given = sa.literal_column("' '").concat(words), [f"word{place}" for place in range(many)]
    return sa.and_(*(spaced.like(sa.bindparam(name, type_=sa.Text, required=True)) for name in given))


def word_query(dialect: str, words: Sequence[str]) -> dict[str, str]:
    """Return the parameters of :func:`has_words`; words are letters and digits (``contracts.history.words_of``)."""
    if dialect == "postgresql":
        return {"words": " & ".join(f"'{word}':*" for word in words)} if words else {}
    return {f"word{place}": f"% {word}%" for place, word in enumerate(words)}


# --- the journal -----------------------------------------------------------------------------------------------------

_ACTIVE: Final = ", ".join(f"'{status}'" for status in sorted(RUN_ACTIVE))
_FINAL: Final = ", ".join(f"'{status}'" for status in sorted(NODE_TERMINAL))
_PG_TYPES: Final[Mapping[type[Any], str]] = {
    sa.Text: "text",
    sa.BigInteger: "int8",
    sa.LargeBinary: "bytea",
    sa.Double: "float8",
}


def columns(table: sa.Table) -> tuple[str, ...]:
    """Return the column names in their order."""
    return tuple(column.name for column in table.columns)


def _typed(table: sa.Table) -> tuple[tuple[str, str], ...]:
    return tuple((column.name, _PG_TYPES[type(column.type)]) for column in table.columns)


RECORD: Final = ("record_id", "tenant", "at", "kind", "actor", "run_id", "prompt_id", "body_json")
"""What is written of an audit record; the sealer adds the rest."""

WRITE: Final = (
    ("run_id", "text"),
    ("epoch", "int8"),
    ("before_seq", "int8"),
    ("after_seq", "int8"),
    ("status", "text"),
    ("waiting_on_json", "text"),
    ("wake_at", "int8"),
    ("plan_version", "int8"),
    ("plan_hash", "text"),
    ("seen", "int8"),
    ("release", "bool"),
    ("terminal", "bool"),
    ("ledger_json", "text"),
    ("started_at", "int8"),
    ("ended_at", "int8"),
)
"""What a fencing UPDATE is given per run."""

PARTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "writes": WRITE,
    "births": (*_typed(tables.runs), ("envelope_json", "text"), ("keyed", "bool")),
    "keys": (*_typed(tables.idempotency_keys), ("now", "int8")),
    "nodes": _typed(tables.nodes),
    "events": _typed(tables.events),
    "prompts": _typed(tables.prompts),
    "plans": _typed(tables.plans),
    "versions": _typed(tables.run_plans),
    "history": _typed(history),
    "answered": (("run_id", "text"), ("signal_id", "int8"), ("outcome", "text")),
    "records": (*((name, kind) for name, kind in _typed(tables.audit_records) if name in RECORD), ("born_as", "text")),
}
"""The arrays that a PostgreSQL group statement takes, in this order, for the parts that the batch has.

``plans`` is deduplicated by the caller and its first column is the tenant, so it is the one part without a run.
"""

# A final node that is written again becomes a status that its CHECK refuses: the batch is bisected, the offender told.
_NODE_STATUS: Final = f"CASE WHEN nodes.status IN ({_FINAL}) THEN 'reopened' ELSE excluded.status END"
_NODE_SET: Final = ", ".join(
    f"status = {_NODE_STATUS}" if name == "status" else f"{name} = excluded.{name}"
    for name in columns(tables.nodes)
    if name not in ("run_id", "node_id")
)

_FENCE: Final = f"""
  UPDATE runs r SET status = i.status, waiting_on_json = i.waiting_on_json, last_seq = i.after_seq,
    wake_at = CASE WHEN i.terminal THEN NULL ELSE i.wake_at END, plan_version = i.plan_version,
    plan_hash = coalesce(i.plan_hash, r.plan_hash), seen = i.seen, ledger_json = i.ledger_json,
    started_at = coalesce(i.started_at, r.started_at), ended_at = i.ended_at,
    worker = CASE WHEN i.terminal OR (i.release AND r.inbox = i.seen) THEN NULL ELSE r.worker END
  FROM {{source}}
  WHERE r.run_id = ANY({{ids}}) AND r.run_id = i.run_id AND r.epoch = i.epoch AND r.last_seq = i.before_seq
    AND r.worker IS NOT NULL AND r.status IN ({_ACTIVE}){{guard}}
  RETURNING r.run_id, r.worker IS NULL AS released, r.inbox, i.terminal"""

# A signal that commits while this statement waits for the run's row is not in its snapshot, and a prompt may be held by
# somebody who is deciding it (prompts are locked before runs). Such an end takes the careful way.
_PLAIN_END: Final = """
    AND (NOT i.terminal OR (r.inbox = i.seen
      AND NOT EXISTS (SELECT 1 FROM prompts p WHERE p.run_id = r.run_id AND p.status = 'open')))"""

_KEYED: Final = """
  INSERT INTO idempotency_keys (tenant, principal, key, fingerprint, run_id, expires_at)
  SELECT k.tenant, k.principal, k.key, k.fingerprint, k.run_id, k.expires_at FROM {source}
  ON CONFLICT (tenant, principal, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, run_id = excluded.run_id, expires_at = excluded.expires_at
    WHERE idempotency_keys.expires_at <= {now}
  RETURNING run_id"""


def _insert(table: sa.Table, source: str, *, conflict: str = "") -> str:
    names = columns(table)
    chosen = ", ".join(f"i.{name}" for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {chosen} FROM {source}{conflict}"


@cache
def group_statement(parts: frozenset[str], *, careful: bool) -> str:
    """Return the one PostgreSQL statement that writes a batch consisting of ``parts`` (keys of :data:`PARTS`).

    Its rows are ``(run_id, released, inbox)`` of the runs that passed. ``careful`` leaves out the condition on ends:
    the caller holds the run rows and answers what is left in the same transaction.
    """
    source: dict[str, str] = {}
    first: dict[str, int] = {}
    number = 1
    for part, cols in PARTS.items():
        if part in parts:
            arrays = ", ".join(f"${number + at}::{kind}[]" for at, (_, kind) in enumerate(cols))
            source[part] = f"unnest({arrays}) AS {{alias}}({', '.join(name for name, _ in cols)})"
            first[part] = number
            number += len(cols)
    ctes = _gates(parts, source, first, careful=careful) | _contents(parts, source)
    gates = [gate for gate in ("fenced", "born") if gate in ctes]
    passed = " UNION ALL ".join(f"SELECT run_id, released, inbox FROM {gate}" for gate in gates)
    body = ",\n".join(f"{name} AS ({text})" for name, text in ctes.items())
    return f"WITH {body}\n{passed}"


def _gates(
    parts: frozenset[str], source: Mapping[str, str], first: Mapping[str, int], *, careful: bool
) -> dict[str, str]:
    """Return the CTEs that decide which runs pass: the fence, the keys, the births."""
    ctes: dict[str, str] = {}
    if "writes" in parts:
        rows = source["writes"].format(alias="i")
        ctes["fenced"] = _FENCE.format(source=rows, ids=f"${first['writes']}", guard="" if careful else _PLAIN_END)
    if "keys" in parts:
        now = f"(${first['keys'] + len(PARTS['keys']) - 1}::int8[])[1]"
        ctes["keyed"] = _KEYED.format(source=source["keys"].format(alias="k"), now=now)
    if "births" in parts:
        allowed = " WHERE NOT i.keyed OR i.run_id IN (SELECT run_id FROM keyed)" if "keys" in parts else ""
        ctes["born"] = (
            _insert(tables.runs, source["births"].format(alias="i") + allowed)
            + " ON CONFLICT (run_id) DO NOTHING RETURNING run_id, worker IS NULL AS released, inbox"
        )
        ctes["enveloped"] = _insert(tables.envelopes, source["births"].format(alias="i") + " JOIN born USING (run_id)")
    gates = [gate for gate in ("fenced", "born") if gate in ctes]
    ctes["passed"] = " UNION ALL ".join(f"SELECT run_id FROM {gate}" for gate in gates)
    return ctes


def _contents(parts: frozenset[str], source: Mapping[str, str]) -> dict[str, str]:
    """Return the CTEs that write what belongs to the runs that passed."""
    ctes: dict[str, str] = {}
    joined = {part: text.format(alias="i") + " JOIN passed USING (run_id)" for part, text in source.items()}
    if "nodes" in parts:
        conflict = f" ON CONFLICT (run_id, node_id) DO UPDATE SET {_NODE_SET}"
        ctes["noded"] = _insert(tables.nodes, joined["nodes"], conflict=conflict)
    for part, table in (
        ("events", tables.events),
        ("prompts", tables.prompts),
        ("versions", tables.run_plans),
        ("history", history),
    ):
        if part in parts:
            ctes[f"wrote_{part}"] = _insert(table, joined[part])
    if "records" in parts:
        names = ", ".join(RECORD)
        given = ", ".join(f"i.{name}" for name in RECORD)
        rows = source["records"].format(alias="i") + " JOIN passed ON passed.run_id = i.born_as"
        ctes["wrote_records"] = f"INSERT INTO audit_records ({names}) SELECT {given} FROM {rows}"
    if "plans" in parts:
        rows = source["plans"].format(alias="i")
        ctes["wrote_plans"] = _insert(tables.plans, rows, conflict=" ON CONFLICT (tenant, document) DO NOTHING")
    pending = "s.outcome IS NULL"
    if "answered" in parts:
        ctes["answering"] = f"SELECT i.* FROM {joined['answered']}"
        ctes["answered"] = (
            "UPDATE signals s SET outcome = a.outcome FROM answering a"
            f" WHERE s.run_id = a.run_id AND s.signal_id = a.signal_id AND {pending}"
        )
        pending += " AND (s.run_id, s.signal_id) NOT IN (SELECT a.run_id, a.signal_id FROM answering a)"
    if "writes" in parts:
        ctes["late"] = (
            "UPDATE signals s SET outcome = 'late' FROM fenced f"
            f" WHERE f.terminal AND s.run_id = f.run_id AND {pending}"
        )
    return ctes


# The careful way: prompts first, then runs, each in id order, as everybody else locks them.
PG_LOCK_PROMPTS: Final = (
    "SELECT prompt_id FROM prompts WHERE status = 'open' AND (run_id = ANY($1::text[]) OR prompt_id = ANY($2::text[]))"
    " ORDER BY prompt_id FOR UPDATE"
)
PG_LOCK_RUNS: Final = (
    "SELECT r.run_id FROM runs r JOIN unnest($1::text[], $2::int8[], $3::int8[]) AS i(run_id, epoch, before_seq)"
    " ON r.run_id = i.run_id WHERE r.run_id = ANY($1) AND r.epoch = i.epoch AND r.last_seq = i.before_seq"
    f" AND r.worker IS NOT NULL AND r.status IN ({_ACTIVE}) ORDER BY r.run_id FOR UPDATE OF r"
)
# Every run concerned, the addressees of mail too: two runs that mail one another never wait in a circle.
PG_LOCK_FAMILY: Final = "SELECT run_id FROM runs WHERE run_id = ANY($1::text[]) ORDER BY run_id FOR UPDATE"
# The same as store/signals.py does for a door, for many at once: the inbox counts, the run becomes due.
PG_MAIL: Final = f"""
WITH given AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[])
    WITH ORDINALITY AS i(run_id, tenant, kind, payload_json, created_at, place)
), counted AS (
  SELECT run_id, tenant, count(*) AS many, min(created_at) AS first FROM given GROUP BY run_id, tenant
), bumped AS (
  UPDATE runs r SET inbox = r.inbox + c.many, wake_at = least(coalesce(r.wake_at, c.first), c.first)
  FROM counted c WHERE r.run_id = c.run_id AND r.tenant = c.tenant AND r.status IN ({_ACTIVE})
  RETURNING r.run_id, r.tenant, r.inbox - c.many AS before
)
INSERT INTO signals (run_id, signal_id, kind, payload_json, created_at)
SELECT g.run_id, b.before + row_number() OVER (PARTITION BY g.run_id ORDER BY g.place), g.kind, g.payload_json,
  g.created_at
FROM given g JOIN bumped b USING (run_id, tenant)"""
PG_FORGET: Final = (
    "DELETE FROM nodes n USING unnest($1::text[], $2::text[]) AS i(run_id, node_id)"
    " WHERE n.run_id = i.run_id AND n.node_id = i.node_id"
)
PG_LATE: Final = "UPDATE signals SET outcome = 'late' WHERE run_id = ANY($1::text[]) AND outcome IS NULL"
PG_WITHDRAW: Final = (
    "UPDATE prompts SET status = 'withdrawn', settled_at = $3::int8"
    " WHERE status = 'open' AND (run_id = ANY($1::text[]) OR prompt_id = ANY($2::text[]))"
)
PG_READ_BACK: Final = (
    "SELECT run_id, epoch, last_seq, worker IS NULL AS released, inbox, worker, created_at, correlation_id"
    " FROM runs WHERE run_id = ANY($1::text[])"
)
PG_READ_KEYS: Final = (
    "SELECT i.run_id, k.run_id, k.fingerprint"
    " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS i(run_id, tenant, principal, key)"
    " JOIN idempotency_keys k ON k.tenant = i.tenant AND k.principal = i.principal AND k.key = i.key"
)


def _values(table: sa.Table, conflict: str = "") -> str:
    names = columns(table)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}){conflict}"


# It returns the worker itself: SQLite 3.40 takes RETURNING worker IS NULL for false because of the condition above it.
LITE_FENCE: Final = f"""
UPDATE runs SET status = ?5, waiting_on_json = ?6, last_seq = ?4, wake_at = CASE WHEN ?12 THEN NULL ELSE ?7 END,
  plan_version = ?8, plan_hash = coalesce(?9, plan_hash), seen = ?10, ledger_json = ?13,
  started_at = coalesce(?14, started_at), ended_at = ?15,
  worker = CASE WHEN ?12 OR (?11 AND inbox = ?10) THEN NULL ELSE worker END
WHERE run_id = ?1 AND epoch = ?2 AND last_seq = ?3 AND worker IS NOT NULL AND status IN ({_ACTIVE})
RETURNING worker, inbox"""
LITE_BIRTH: Final = _values(tables.runs)
LITE_SPAWN: Final = _values(tables.runs, " ON CONFLICT (run_id) DO NOTHING")
LITE_RECORD: Final = f"INSERT INTO audit_records ({', '.join(RECORD)}) VALUES ({', '.join('?' * len(RECORD))})"
LITE_ENVELOPE: Final = _values(tables.envelopes)
LITE_KEY: Final = _values(
    tables.idempotency_keys,
    " ON CONFLICT (tenant, principal, key) DO UPDATE SET fingerprint = excluded.fingerprint, run_id = excluded.run_id,"
    " expires_at = excluded.expires_at WHERE idempotency_keys.expires_at <= ?",
)
LITE_READ_KEY: Final = "SELECT run_id, fingerprint FROM idempotency_keys WHERE tenant = ? AND principal = ? AND key = ?"
LITE_NODE: Final = _values(tables.nodes, f" ON CONFLICT (run_id, node_id) DO UPDATE SET {_NODE_SET}")
LITE_EVENT: Final = _values(tables.events)
LITE_PROMPT: Final = _values(tables.prompts)
LITE_PLAN: Final = _values(tables.plans, " ON CONFLICT (tenant, document) DO NOTHING")
LITE_VERSION: Final = _values(tables.run_plans)
LITE_HISTORY: Final = _values(history)
LITE_FORGET: Final = "DELETE FROM nodes WHERE run_id = ? AND node_id = ?"
LITE_ANSWER: Final = "UPDATE signals SET outcome = ? WHERE run_id = ? AND signal_id = ? AND outcome IS NULL"
LITE_LATE: Final = "UPDATE signals SET outcome = 'late' WHERE run_id = ? AND outcome IS NULL"
LITE_BUMP: Final = (
    "UPDATE runs SET inbox = inbox + 1, wake_at = min(coalesce(wake_at, ?1), ?1)"
    f" WHERE run_id = ?2 AND tenant = ?3 AND status IN ({_ACTIVE}) RETURNING inbox"
)
LITE_SIGNAL: Final = "INSERT INTO signals (run_id, signal_id, kind, payload_json, created_at) VALUES (?, ?, ?, ?, ?)"
LITE_WITHDRAW: Final = (
    "UPDATE prompts SET status = 'withdrawn', settled_at = ? WHERE run_id = ? AND prompt_id = ? AND status = 'open'"
)
LITE_WITHDRAW_ALL: Final = (
    "UPDATE prompts SET status = 'withdrawn', settled_at = ? WHERE run_id = ? AND status = 'open'"
)


def rows_in_columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    """Turn rows into one tuple per column, which is what ``unnest`` takes; ``width`` columns even without rows."""
    return list(zip(*rows, strict=True)) if rows else [()] * width
