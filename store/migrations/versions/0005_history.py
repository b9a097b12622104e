"""Where runs come from, and the history of those that ended.

Revision: 0005, after 0004.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LIVE = "ended_at IS NULL AND parent_run_id IS NULL"
OF_RUNS = ("flow_id", "story_id", "origin_json")


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def upgrade() -> None:
    for name in OF_RUNS:
        op.add_column("runs", _text(name, null=True))
    _index("ix_runs_live", "runs", ["tenant", "created_at", "run_id"], LIVE)
    _index(
        "ix_runs_live_flow", "runs", ["tenant", "flow_id", "created_at", "run_id"], f"{LIVE} AND flow_id IS NOT NULL"
    )
    op.create_table(
        "history", _text("run_id"), _text("tenant"), _text("principal"), _text("status"), _text("way"),
        _text("trigger"), _text("flow_id", null=True), _number("flow_version", null=True),
        _text("flow_name", null=True), _text("template_id", null=True), _text("template_name", null=True),
        _text("story_id", null=True),
        _text("tool", null=True), _text("objective"), _text("preview"), _text("words"), _number("created_at"),
        _number("started_at", null=True), _number("ended_at"), _number("duration_ms"), _number("waited_ms"),
        _number("asks"), _number("tokens"), sa.Column("cost", sa.Double(), nullable=False),
        _text("error_code", null=True), _text("error_message", null=True), _text("failed_node_id", null=True),
        _text("origin_run_id", null=True), sa.PrimaryKeyConstraint("run_id", name=op.f("pk_history")),
    )  # fmt: skip
    op.create_index("ix_history_page", "history", ["tenant", "created_at", "run_id"])
    op.create_index("ix_history_status", "history", ["tenant", "status", "created_at", "run_id"])
    by_status = ["tenant", "flow_id", "status", "created_at", "run_id"]
    _index("ix_history_flow_status", "history", by_status, "flow_id IS NOT NULL")
    for name in ("flow_id", "template_id", "story_id"):
        columns = ["tenant", name, "created_at", "run_id"]
        _index(f"ix_history_{name.removesuffix('_id')}", "history", columns, f"{name} IS NOT NULL")
    if op.get_bind().dialect.name == "postgresql":
        words = sa.text("array_to_tsvector(string_to_array(words, ' '))")
        op.create_index("ix_history_words", "history", [words], postgresql_using="gin")


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    op.drop_table("history")
    for name in ("ix_runs_live_flow", "ix_runs_live"):
        op.drop_index(name, "runs")
    for name in OF_RUNS:
        op.drop_column("runs", name)
