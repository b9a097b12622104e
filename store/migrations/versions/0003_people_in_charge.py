"""Lineage of runs, policies of prompts, the audit chain, retention, notifications and review links.

Revision: 0003, after 0002.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RUNS = ("root_run_id", "parent_run_id", "parent_node_id", "parent_generation", "origin_run_id", "origin_node_id")
_PROMPTS = ("policy_json", "requester", "level", "notify_at", "delegations_json")
_TABLES = (
    "audit_records", "audit_heads", "audit_checkpoints", "retention_policies", "tombstones", "pruned_prompts", "leases",
    "notifications", "review_links", "signing_keys",
)  # fmt: skip


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=None if default is None else sa.text(default))


def _number(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null, server_default=default)


def _table(name: str, key: Sequence[str], *columns: sa.Column[Any]) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}")))


def _partial(name: str, table: str, columns: Sequence[str], where: str, *, unique: bool = False) -> None:
    chosen = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=chosen, postgresql_where=chosen)


def _lineage() -> None:
    for name in ("root_run_id", "parent_run_id", "parent_node_id"):
        op.add_column("runs", _text(name, null=True))
    op.add_column("runs", _number("parent_generation", default="0"))
    for name in ("origin_run_id", "origin_node_id"):
        op.add_column("runs", _text(name, null=True))
    op.add_column("runs", _number("start_at", null=True))
    for name in ("root", "parent", "origin"):
        _partial(f"ix_runs_{name}", "runs", [f"{name}_run_id"], f"{name}_run_id IS NOT NULL")
    roots = "ended_at IS NOT NULL AND parent_run_id IS NULL"
    _partial("ix_runs_ended", "runs", ["tenant", "ended_at", "run_id"], roots)


def _policies() -> None:
    op.add_column("prompts", _text("policy_json", default="'{}'"))
    op.add_column("prompts", _text("requester", default="''"))
    op.add_column("prompts", _number("level", default="0"))
    op.add_column("prompts", _number("notify_at", null=True))
    op.add_column("prompts", _text("delegations_json", default="'[]'"))
    _partial("ix_prompts_notify", "prompts", ["notify_at"], "status = 'open' AND notify_at IS NOT NULL")


def _audit() -> None:
    _table(
        "audit_records", ["record_id"], _text("record_id"), _text("tenant"), _number("at"), _text("kind"),
        _text("actor"), _text("run_id", null=True), _text("prompt_id", null=True), _text("body_json"),
        _number("seq", null=True), _text("previous", null=True), _text("hash", null=True),
    )  # fmt: skip
    _partial("ux_audit_records_chain", "audit_records", ["tenant", "seq"], "seq IS NOT NULL", unique=True)
    _partial("ix_audit_records_unsealed", "audit_records", ["tenant", "at", "record_id"], "seq IS NULL")
    for name in ("run", "prompt"):
        columns = ["tenant", f"{name}_id", "at", "record_id"]
        _partial(f"ix_audit_records_{name}", "audit_records", columns, f"{name}_id IS NOT NULL")
    op.create_index("ix_audit_records_page", "audit_records", ["tenant", "at", "record_id"])
    _table("audit_heads", ["tenant"], _text("tenant"), _number("seq"), _text("hash"))
    _table("audit_checkpoints", ["tenant", "seq"], _text("tenant"), _number("seq"), _text("hash"), _number("at"))


def _retention() -> None:
    _table(
        "retention_policies", ["tenant"], _text("tenant"), _number("runs_days", null=True),
        _number("audit_days", null=True), _text("updated_by"), _number("updated_at"),
    )  # fmt: skip
    _table(
        "tombstones", ["run_id"], _text("run_id"), _text("tenant"), _number("created_at"), _number("pruned_at"),
        _number("emptied_at", null=True), _text("summary_json"),
    )  # fmt: skip
    op.create_index("ix_tombstones_page", "tombstones", ["tenant", "created_at", "run_id"])
    op.create_index("ix_tombstones_pruned", "tombstones", ["tenant", "pruned_at"])
    _partial("ix_tombstones_emptying", "tombstones", ["run_id"], "emptied_at IS NULL")
    op.create_table(
        "pruned_prompts", _text("prompt_id"), _text("run_id"),
        sa.PrimaryKeyConstraint("prompt_id", name=op.f("pk_pruned_prompts")), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("ix_pruned_prompts_run", "pruned_prompts", ["run_id"])
    _table("leases", ["name"], _text("name"), _text("holder"), _number("until"))
    op.create_index("ix_run_plans_document", "run_plans", ["document"])


def _telling() -> None:
    _table(
        "notifications", ["notification_id"], _text("notification_id"), _text("tenant"), _text("prompt_id"),
        _text("run_id"), _text("kind"), _text("recipient"), _number("created_at"), _number("wake_at", null=True),
        _number("attempts"), _number("sent_at", null=True), _text("error", null=True),
    )  # fmt: skip
    _partial("ix_notifications_due", "notifications", ["wake_at"], "wake_at IS NOT NULL")
    op.create_index("ix_notifications_prompt", "notifications", ["prompt_id"])
    _partial("ix_notifications_sent", "notifications", ["sent_at"], "sent_at IS NOT NULL")
    _table(
        "review_links", ["link_id"], _text("link_id"), _text("tenant"), _text("prompt_id"), _text("subject"),
        _text("roles_json"), _text("groups_json"), _number("expires_at"), _number("used_at", null=True),
    )  # fmt: skip
    op.create_index("ix_review_links_prompt", "review_links", ["prompt_id"])
    _table("signing_keys", ["purpose"], _text("purpose"), _text("secret"), _number("created_at"))


def upgrade() -> None:
    _lineage()
    _policies()
    _audit()
    _retention()
    _telling()


def downgrade() -> None:
    for name in reversed(_TABLES):
        op.drop_table(name)
    op.drop_index("ix_run_plans_document", "run_plans")
    op.drop_index("ix_prompts_notify", "prompts")
    for name in _PROMPTS:
        op.drop_column("prompts", name)
    for name in ("root", "parent", "origin", "ended"):
        op.drop_index(f"ix_runs_{name}", "runs")
    for name in (*_RUNS, "start_at"):
        op.drop_column("runs", name)
