"""Flows and their versions.

Revision: 0004, after 0003.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def upgrade() -> None:
    op.create_table(
        "flows", _text("flow_id"), _text("tenant"), _text("name"), _text("description"), _text("draft_json"),
        _number("revision"), _number("published", null=True), _text("created_by"), _number("created_at"),
        _number("updated_at"), sa.PrimaryKeyConstraint("flow_id", name=op.f("pk_flows")),
    )  # fmt: skip
    op.create_index("ix_flows_page", "flows", ["tenant", "created_at", "flow_id"])
    op.create_table(
        "flow_versions", _text("flow_id"), _number("version"), _text("tenant"), _text("document_json"), _text("digest"),
        _text("author"), _text("note"), _number("created_at"),
        sa.PrimaryKeyConstraint("flow_id", "version", name=op.f("pk_flow_versions")),
    )  # fmt: skip
    op.create_table(
        "flow_uses", _text("user_id"), _text("node_id"), _text("tenant"), _text("flow_id"),
        _number("version", null=True), sa.PrimaryKeyConstraint("user_id", "node_id", name=op.f("pk_flow_uses")),
    )  # fmt: skip
    op.create_index("ix_flow_uses_flow", "flow_uses", ["tenant", "flow_id"])


def downgrade() -> None:
    for name in ("flow_uses", "flow_versions", "flows"):
        op.drop_table(name)
