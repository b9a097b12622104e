"""How long conversations, documents and memory are kept, and indexes by which what is old is found.

Revision: 0011, after 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

DAYS = ("conversations_days", "documents_days", "memory_days")
LIVE = sa.text("ended_at IS NULL AND parent_run_id IS NULL AND story_id IS NOT NULL")
THERE = sa.text("present = 1")


def upgrade() -> None:
    for name in DAYS:
        op.add_column("retention_policies", sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=True))
    op.create_index("ix_conversations_updated", "conversations", ["tenant", "updated_at"])
    op.create_index(
        "ix_documents_updated", "documents", ["tenant", "updated_at"], sqlite_where=THERE, postgresql_where=THERE
    )
    op.create_index("ix_memory_entries_updated", "memory_entries", ["tenant", "updated_at"])
    op.create_index("ix_runs_live_story", "runs", ["tenant", "story_id"], sqlite_where=LIVE, postgresql_where=LIVE)


def downgrade() -> None:
    op.drop_index("ix_runs_live_story", "runs")
    op.drop_index("ix_memory_entries_updated", "memory_entries")
    op.drop_index("ix_documents_updated", "documents")
    op.drop_index("ix_conversations_updated", "conversations")
    for name in DAYS:
        op.drop_column("retention_policies", name)
