"""Flows as capabilities, and every way in which a flow is used.

Revision: 0010, after 0009.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def upgrade() -> None:
    op.create_table(
        "flow_capabilities", _text("flow_id"), _text("tenant"), _number("version"),
        sa.PrimaryKeyConstraint("flow_id", name=op.f("pk_flow_capabilities")),
    )  # fmt: skip
    op.create_index("ix_flow_capabilities_tenant", "flow_capabilities", ["tenant", "flow_id"])
    op.create_table(
        "flow_offer_changes", _text("tenant"), _number("changes"),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_flow_offer_changes")),
    )  # fmt: skip
    op.create_table(
        "flow_usages", _text("user_id"), _text("node_id"), _text("flow_id"), _text("via"), _text("tenant"),
        _text("user_kind"), _number("version", null=True),
        sa.PrimaryKeyConstraint("user_id", "node_id", "flow_id", "via", name=op.f("pk_flow_usages")),
    )  # fmt: skip
    op.create_index("ix_flow_usages_flow", "flow_usages", ["tenant", "flow_id"])
    op.execute(
        "INSERT INTO flow_usages (user_id, node_id, flow_id, via, tenant, user_kind, version)"
        " SELECT user_id, node_id, flow_id, 'subflow', tenant, 'flow', version FROM flow_uses"
    )
    op.drop_table("flow_uses")
    # Child runs of flows that planners found: a handful, and no other run is in it.
    planned = sa.text("parent_run_id IS NOT NULL AND flow_id IS NOT NULL")
    op.create_index(
        "ix_runs_planned_flow", "runs", ["tenant", "flow_id", "created_at", "run_id"],
        sqlite_where=planned, postgresql_where=planned,
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("ix_runs_planned_flow", "runs")
    op.create_table(
        "flow_uses", _text("user_id"), _text("node_id"), _text("tenant"), _text("flow_id"),
        _number("version", null=True), sa.PrimaryKeyConstraint("user_id", "node_id", name=op.f("pk_flow_uses")),
    )  # fmt: skip
    op.create_index("ix_flow_uses_flow", "flow_uses", ["tenant", "flow_id"])
    op.execute(
        "INSERT INTO flow_uses (user_id, node_id, tenant, flow_id, version)"
        " SELECT user_id, node_id, tenant, flow_id, version FROM flow_usages"
        " WHERE via = 'subflow' AND user_kind = 'flow'"
    )
    for name in ("flow_usages", "flow_offer_changes", "flow_capabilities"):
        op.drop_table(name)
