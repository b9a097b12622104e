"""The first schema: runs with their plans, nodes and log; prompts and decisions; signals, workers, keys.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("answer_json", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("winning", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decisions")),
    )
    op.create_index("ux_decisions_voice", "decisions", ["prompt_id", "decided_by"], unique=True)
    op.create_index(
        "ux_decisions_winner",
        "decisions",
        ["prompt_id"],
        unique=True,
        sqlite_where=sa.text("winning"),
        postgresql_where=sa.text("winning"),
    )


def _envelopes() -> None:
    op.create_table(
        "envelopes",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("envelope_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_envelopes")),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_events")),
        sqlite_with_rowid=False,
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "principal", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_expiry", "idempotency_keys", ["expires_at"], unique=False)


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("started_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("ended_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("wake_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("inputs_json", sa.Text(), nullable=True),
        sa.Column("output_json", sa.Text(), nullable=True),
        sa.Column("error_json", sa.Text(), nullable=True),
        sa.Column("history_json", sa.Text(), nullable=True),
        sa.Column("state_json", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('backoff', 'cancelled', 'completed', 'failed', 'ready', 'running', 'skipped', 'waiting')",
            name=op.f("ck_nodes_status"),
        ),
        sa.PrimaryKeyConstraint("run_id", "node_id", name=op.f("pk_nodes")),
        postgresql_with={"fillfactor": "70"},
        sqlite_with_rowid=False,
    )


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("plan_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "document", name=op.f("pk_plans")),
    )


def _prompts() -> None:
    op.create_table(
        "prompts",
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("proposed_json", sa.Text(), nullable=False),
        sa.Column("answer_schema_json", sa.Text(), nullable=False),
        sa.Column("actions_json", sa.Text(), nullable=False),
        sa.Column("assignees_json", sa.Text(), nullable=False),
        sa.Column("quorum", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=True),
        sa.Column("plan_version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bound_hash", sa.Text(), nullable=False),
        sa.Column("on_timeout", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("decision_json", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('expired', 'open', 'settled', 'withdrawn')", name=op.f("ck_prompts_status")),
        sa.PrimaryKeyConstraint("prompt_id", name=op.f("pk_prompts")),
    )
    op.create_index(
        "ix_prompts_due",
        "prompts",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("status = 'open' AND due_at IS NOT NULL AND on_timeout <> 'wait'"),
        postgresql_where=sa.text("status = 'open' AND due_at IS NOT NULL AND on_timeout <> 'wait'"),
    )
    op.create_index("ix_prompts_page", "prompts", ["tenant", "status", "created_at", "prompt_id"], unique=False)
    op.create_index("ix_prompts_run", "prompts", ["run_id"], unique=False)


def _run_plans() -> None:
    op.create_table(
        "run_plans",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "version", name=op.f("pk_run_plans")),
        sqlite_with_rowid=False,
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("waiting_on_json", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("inbox", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seen", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("wake_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("plan_version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("contract_hash", sa.Text(), nullable=False),
        sa.Column("ledger_json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("started_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("ended_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint(
            "status IN ('cancelled', 'completed', 'failed', 'planning', 'queued', 'running', 'waiting')",
            name=op.f("ck_runs_status"),
        ),
        sa.CheckConstraint(
            "status IN ('planning', 'queued', 'running', 'waiting') OR (worker IS NULL AND wake_at IS NULL)",
            name=op.f("ck_runs_ended"),
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
        postgresql_with={"fillfactor": "60"},
    )
    op.create_index(
        "ix_runs_due",
        "runs",
        ["wake_at"],
        unique=False,
        sqlite_where=sa.text("worker IS NULL AND wake_at IS NOT NULL"),
        postgresql_where=sa.text("worker IS NULL AND wake_at IS NOT NULL"),
    )
    op.create_index("ix_runs_page", "runs", ["tenant", "created_at", "run_id"], unique=False)
    op.create_index(
        "ix_runs_worker",
        "runs",
        ["worker"],
        unique=False,
        sqlite_where=sa.text("worker IS NOT NULL"),
        postgresql_where=sa.text("worker IS NOT NULL"),
    )


def _signals() -> None:
    op.create_table(
        "signals",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("signal_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload_json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.CheckConstraint("outcome IN ('applied', 'late', 'superseded')", name=op.f("ck_signals_outcome")),
        sa.PrimaryKeyConstraint("run_id", "signal_id", name=op.f("pk_signals")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_signals_pending",
        "signals",
        ["run_id", "signal_id"],
        unique=False,
        sqlite_where=sa.text("outcome IS NULL"),
        postgresql_where=sa.text("outcome IS NULL"),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("beat_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("info_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )


def upgrade() -> None:
    _decisions()
    _envelopes()
    _events()
    _idempotency_keys()
    _nodes()
    _plans()
    _prompts()
    _run_plans()
    _runs()
    _signals()
    _workers()


def downgrade() -> None:
    for table in (
        "workers",
        "signals",
        "runs",
        "run_plans",
        "prompts",
        "plans",
        "nodes",
        "idempotency_keys",
        "events",
        "envelopes",
        "decisions",
    ):
        op.drop_table(table)
