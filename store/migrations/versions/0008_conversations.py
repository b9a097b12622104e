"""Conversations and their messages.

Revision: 0008, after 0007.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "conversations", _text("conversation_id"), _text("tenant"), _text("principal"), _text("title"),
        _text("settings_json"), _number("messages"), _number("created_at"), _number("updated_at"),
        sa.PrimaryKeyConstraint("conversation_id", name=op.f("pk_conversations")),
    )  # fmt: skip
    op.create_index("ix_conversations_page", "conversations", ["tenant", "created_at", "conversation_id"])
    op.create_table(
        "conversation_messages", _text("message_id"), _text("tenant"), _text("conversation_id"), _number("place"),
        _text("parent_id", null=True), _text("role"), _text("content", null=True), _text("run_id", null=True),
        _text("key", null=True), _text("fingerprint", null=True), _number("created_at"),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_conversation_messages")),
    )  # fmt: skip
    for name in ("place", "key"):
        op.create_index(
            f"ix_conversation_messages_{name}", "conversation_messages", ["conversation_id", name], unique=True
        )


def downgrade() -> None:
    for name in ("conversation_messages", "conversations"):
        op.drop_table(name)
