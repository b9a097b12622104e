"""Tables of documents: one head per document of a story, its versions, its passages, and who waits for it (R4)."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from store.tables import metadata, number_column, text_column


def _whose() -> list[sa.Column[Any]]:
    return [text_column("tenant", key=True), text_column("story_id", key=True), text_column("document_id", key=True)]


# The row that whoever puts a document and whoever waits for it lock first. It is there as soon as somebody waits, and
# stays when the document is deleted: its numbers go on, so an ETag never comes back with another content.
documents: Final = sa.Table(
    "documents", metadata, *_whose(), number_column("version"), number_column("present"), number_column("updated_at")
)

# What is there, by the time it was last put: retention finds what is old by it.
sa.Index(
    "ix_documents_updated", documents.c.tenant, documents.c.updated_at, sqlite_where=sa.text("present = 1"),
    postgresql_where=sa.text("present = 1"),
)  # fmt: skip

# Versions never change; old ones go when there are too many.
document_versions: Final = sa.Table(
    "document_versions",
    metadata,
    *_whose(),
    number_column("version", key=True),
    text_column("media_type"),
    number_column("bytes"),
    text_column("digest"),
    text_column("text_status"),
    text_column("text_error", null=True),
    number_column("characters"),
    number_column("truncated"),
    text_column("created_by"),
    number_column("created_at"),
    text_column("text", null=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

# Passages of the newest version only. ``words`` is what the index holds: the words of the text, folded.
passages: Final = sa.Table(
    "passages",
    metadata,
    # SQLite's index of words is over this number, which must be the row's own.
    sa.Column("passage_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True),
    text_column("tenant"),
    text_column("story_id"),
    text_column("document_id"),
    number_column("version"),
    number_column("place"),
    number_column("start"),
    text_column("text"),
    text_column("words"),
)
sa.Index("ix_passages_document", passages.c.tenant, passages.c.story_id, passages.c.document_id)

# Runs that wait for a document which is not there. A row goes when the document comes, or with its run.
document_waits: Final = sa.Table(
    "document_waits", metadata, *_whose(), text_column("run_id", key=True), number_column("created_at")
)
sa.Index("ix_document_waits_run", document_waits.c.run_id)

# --- the index of words, which each database has in its own way ------------------------------------------------------

# The words are folded and split already: no parser of a database decides again what a word is.
WORDS_POSTGRESQL: Final = "array_to_tsvector(string_to_array(words, ' '))"
PASSAGES_WORDS: Final = sa.Index(
    "ix_passages_words", sa.text(WORDS_POSTGRESQL), _table=passages, postgresql_using="gin"
).ddl_if(dialect="postgresql")

_INDEX_SQLITE: Final = (
    "CREATE VIRTUAL TABLE passages_words USING fts5("
    "words, content='passages', content_rowid='passage_id', tokenize='unicode61 remove_diacritics 0')"
)
_ADDED_SQLITE: Final = (
    "CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN"
    " INSERT INTO passages_words (rowid, words) VALUES (new.passage_id, new.words); END"
)
_GONE_SQLITE: Final = (
    "CREATE TRIGGER passages_gone AFTER DELETE ON passages BEGIN"
    " INSERT INTO passages_words (passages_words, rowid, words) VALUES ('delete', old.passage_id, old.words); END"
)


def _made_on_sqlite(statement: str) -> sa.DDL:
    made: sa.DDL = sa.DDL(statement).execute_if(dialect="sqlite")  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    return made


for _text in (_INDEX_SQLITE, _ADDED_SQLITE, _GONE_SQLITE):
    sa.event.listen(passages, "after_create", _made_on_sqlite(_text))
