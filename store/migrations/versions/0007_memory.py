"""What is remembered between runs.

Revision: 0007, after 0006.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCOPE = ("tenant", "kind", "owner", "story")


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def upgrade() -> None:
    op.create_table(
        "memory_scopes", *(_text(name) for name in SCOPE), _number("revision"), _number("entries"),
        _number("updated_at"), sa.PrimaryKeyConstraint(*SCOPE, name=op.f("pk_memory_scopes")),
    )  # fmt: skip
    op.create_table(
        "memory_entries", *(_text(name) for name in SCOPE), _text("key"), _text("value_json"), _number("revision"),
        _number("created_at"), _number("updated_at"), _text("run_id", null=True), _text("node_id", null=True),
        _number("attempt", null=True), _text("person", null=True),
        sa.PrimaryKeyConstraint(*SCOPE, "key", name=op.f("pk_memory_entries")),
    )  # fmt: skip
    op.create_index("ix_memory_entries_newest", "memory_entries", [*SCOPE, "revision"])


def downgrade() -> None:
    for name in ("memory_entries", "memory_scopes"):
        op.drop_table(name)
