"""Templates that tenants write.

Revision: 0009, after 0008.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "templates", _text("template_id"), _text("tenant"), _text("name"), _text("category"), _text("document_json"),
        _number("revision"), _text("created_by"), _number("created_at"), _number("updated_at"),
        sa.PrimaryKeyConstraint("template_id", name=op.f("pk_templates")),
    )  # fmt: skip
    op.create_index("ix_templates_page", "templates", ["tenant", "created_at", "template_id"])


def downgrade() -> None:
    op.drop_table("templates")
