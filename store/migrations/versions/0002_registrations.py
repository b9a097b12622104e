"""Capabilities that are registered while the service runs.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "registrations",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("capability_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("beats", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("beat_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("declaration_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "capability_id", "version", name=op.f("pk_registrations")),
    )
    op.create_table(
        "registration_changes",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("changes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_registration_changes")),
    )


def downgrade() -> None:
    op.drop_table("registration_changes")
    op.drop_table("registrations")
