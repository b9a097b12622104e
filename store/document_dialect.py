"""What the two databases do differently about documents, each with its why (``store/dialect.py`` has the rest)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from store.statement import number, text

# Documents that new runs wait for: their heads are locked before the runs, in one order, by everybody.
PG_HEADS: Final = (
    "INSERT INTO documents (tenant, story_id, document_id, version, present, updated_at)"
    " SELECT i.tenant, i.story_id, i.document_id, 0, 0, i.at FROM"
    " unnest($1::text[], $2::text[], $3::text[], $4::int8[]) AS i(tenant, story_id, document_id, at) ORDER BY 1, 2, 3"
    " ON CONFLICT (tenant, story_id, document_id) DO UPDATE SET version = documents.version"
)
# A statement of its own: its snapshot is newer than the locks. Its rows are the documents that have come meanwhile.
PG_WAIT: Final = """
WITH given AS (
  SELECT i.*, d.present, d.version
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[])
    AS i(tenant, story_id, document_id, run_id, created_at)
  JOIN documents d USING (tenant, story_id, document_id)
), waiting AS (
  INSERT INTO document_waits (tenant, story_id, document_id, run_id, created_at)
  SELECT tenant, story_id, document_id, run_id, created_at FROM given WHERE present = 0
)
SELECT run_id, tenant, document_id, version, created_at FROM given WHERE present = 1"""
LITE_HEAD: Final = (
    "INSERT INTO documents (tenant, story_id, document_id, version, present, updated_at) VALUES (?, ?, ?, 0, 0, ?)"
    " ON CONFLICT (tenant, story_id, document_id) DO UPDATE SET version = documents.version RETURNING version, present"
)
LITE_WAIT: Final = (
    "INSERT INTO document_waits (tenant, story_id, document_id, run_id, created_at) VALUES (?, ?, ?, ?, ?)"
)

_PASSAGE: Final = "tenant, story_id, document_id, version, place, start, text, words"


def insert_passages(dialect: str) -> sa.TextClause:
    """Insert a document's passages from one JSON list: a round trip each would hold the document's row for seconds."""
    if dialect == "postgresql":
        rows = (
            "SELECT :of, :story, :document, :version, r.place, r.start, r.text, r.words"
            " FROM json_to_recordset(CAST(:listed AS json)) AS r(place int8, start int8, text text, words text)"
        )
    else:
        parts = ", ".join(f"json_extract(value, '$.{name}')" for name in ("place", "start", "text", "words"))
        rows = f"SELECT :of, :story, :document, :version, {parts} FROM json_each(:listed) WHERE true"
    return sa.text(f"INSERT INTO passages ({_PASSAGE}) {rows}").bindparams(
        text("of"), text("story"), text("document"), number("version"), text("listed")
    )


def any_of_words(dialect: str, words: Sequence[str]) -> str:
    """Return the search for any of these words as the database's index wants it; words have no quotes in them."""
    return (
        " | ".join(f"'{word}'" for word in words)
        if dialect == "postgresql"
        else " OR ".join(f'"{word}"' for word in words)
    )


def find_passages(dialect: str) -> sa.TextClause:
    """Find a story's passages by words: an array of lexemes under GIN on PostgreSQL, FTS5 on SQLite.

    Neither parses the words again (``store/document_tables.py``), so both find the same.
    """
    columns_ = "p.document_id, p.version, p.place, p.start, p.text, p.words"
    its = "p.tenant = :of AND p.story_id = :story"
    if dialect == "postgresql":
        indexed = "array_to_tsvector(string_to_array(p.words, ' '))"
        query = (
            f"SELECT {columns_} FROM passages p WHERE {its} AND {indexed} @@ CAST(:match AS tsquery)"
            f" ORDER BY ts_rank({indexed}, CAST(:match AS tsquery)) DESC, p.passage_id LIMIT :most"
        )
    else:
        query = (
            f"SELECT {columns_} FROM passages_words JOIN passages p ON p.passage_id = passages_words.rowid"
            f" WHERE passages_words MATCH :match AND {its} ORDER BY passages_words.rank, p.passage_id LIMIT :most"
        )
    return sa.text(query).bindparams(text("of"), text("story"), text("match"), number("most"))
