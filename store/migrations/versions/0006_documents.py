"""Documents of stories, their passages, and who waits for them.

Revision: 0006, after 0005.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_WHOSE = ("tenant", "story_id", "document_id")


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def _whose() -> list[sa.Column[Any]]:
    return [_text(name) for name in _WHOSE]


def _key(table: str, *more: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*_WHOSE, *more, name=op.f(f"pk_{table}"))


def upgrade() -> None:
    op.create_table(
        "documents", *_whose(), _number("version"), _number("present"), _number("updated_at"), _key("documents")
    )
    op.create_table(
        "document_versions", *_whose(), _number("version"), _text("media_type"), _number("bytes"), _text("digest"),
        _text("text_status"), _text("text_error", null=True), _number("characters"), _number("truncated"),
        _text("created_by"), _number("created_at"), _text("text", null=True),
        sa.Column("content", sa.LargeBinary(), nullable=False), _key("document_versions", "version"),
    )  # fmt: skip
    op.create_table(
        "passages",
        sa.Column("passage_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        *_whose(), _number("version"), _number("place"), _number("start"), _text("text"), _text("words"),
        sa.PrimaryKeyConstraint("passage_id", name=op.f("pk_passages")),
    )  # fmt: skip
    op.create_index("ix_passages_document", "passages", list(_WHOSE))
    op.create_table(
        "document_waits", *_whose(), _text("run_id"), _number("created_at"), _key("document_waits", "run_id")
    )
    op.create_index("ix_document_waits_run", "document_waits", ["run_id"])
    if op.get_bind().dialect.name == "postgresql":
        words = sa.text("array_to_tsvector(string_to_array(words, ' '))")
        op.create_index("ix_passages_words", "passages", [words], postgresql_using="gin")
        return
    op.execute(
        "CREATE VIRTUAL TABLE passages_words USING fts5("
        "words, content='passages', content_rowid='passage_id', tokenize='unicode61 remove_diacritics 0')"
    )
    op.execute(
        "CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN"
        " INSERT INTO passages_words (rowid, words) VALUES (new.passage_id, new.words); END"
    )
    op.execute(
        "CREATE TRIGGER passages_gone AFTER DELETE ON passages BEGIN"
        " INSERT INTO passages_words (passages_words, rowid, words) VALUES ('delete', old.passage_id, old.words); END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("passages_words")
    for name in ("document_waits", "passages", "document_versions", "documents"):
        op.drop_table(name)
