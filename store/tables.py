"""Every table, as SQLAlchemy Core: the one description of the schema (the migrations must add up to it).

Times are integers, ms since the epoch. JSON is text: nobody queries inside it. There are no foreign keys: the journal
writes a run's rows in one statement under its fence, and retention deletes whole runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from contracts.lifecycle import NODE_TERMINAL, RUN_ACTIVE, NodeStatus, PromptStatus, RunStatus

SIGNAL_OUTCOMES: Final = ("applied", "superseded", "late")

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def among(column: sa.ColumnElement[Any], values: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return ``column IN ('a', 'b')``, the values spelled out: they are ours, and partial indexes need constants."""
    return column.in_([sa.literal_column(f"'{value}'") for value in sorted(values)])


def _one_of(column: str, values: Iterable[str], name: str = "status") -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})", name=name)


def text_column(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> sa.Column[Any]:
    """Return a column of text."""
    given = None if default is None else sa.text(f"'{default}'")
    return sa.Column(name, sa.Text, nullable=null, primary_key=key, server_default=given)


def number_column(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> sa.Column[Any]:
    """Return a column of whole numbers of 64 bits."""
    return sa.Column(name, sa.BigInteger, nullable=null, primary_key=key, autoincrement=False, server_default=default)


runs: Final = sa.Table(
    "runs",
    metadata,
    text_column("run_id", key=True),
    text_column("tenant"),
    text_column("principal"),
    text_column("status"),
    text_column("waiting_on_json"),
    text_column("worker", null=True),
    number_column("epoch"),
    number_column("last_seq"),
    number_column("inbox"),
    number_column("seen"),
    number_column("wake_at", null=True),
    number_column("plan_version"),
    text_column("plan_hash", null=True),
    text_column("correlation_id"),
    text_column("objective"),
    text_column("contract_hash"),
    text_column("ledger_json"),
    number_column("created_at"),
    number_column("started_at", null=True),
    number_column("ended_at", null=True),
    # Written once, at birth: the tree it belongs to, the node it is a child of, what it is a fork of, its start.
    text_column("root_run_id", null=True),
    text_column("parent_run_id", null=True),
    text_column("parent_node_id", null=True),
    number_column("parent_generation", default="0"),
    text_column("origin_run_id", null=True),
    text_column("origin_node_id", null=True),
    number_column("start_at", null=True),
    # Which door it came through and what it was made of (contracts/history.py); doors look runs up by the first two.
    text_column("flow_id", null=True),
    text_column("story_id", null=True),
    text_column("origin_json", null=True),
    _one_of("status", RunStatus),
    # An ended run has no owner and no timer, so the two partial indexes below hold live runs only.
    sa.CheckConstraint(
        f"status IN ({', '.join(repr(str(s)) for s in sorted(RUN_ACTIVE))}) OR (worker IS NULL AND wake_at IS NULL)",
        name="ended",
    ),
    # Room on the page for the next version of a row that every transition rewrites.
    postgresql_with={"fillfactor": "60"},
)
sa.Index("ix_runs_page", runs.c.tenant, runs.c.created_at, runs.c.run_id)
sa.Index(
    "ix_runs_due",
    runs.c.wake_at,
    sqlite_where=sa.text("worker IS NULL AND wake_at IS NOT NULL"),
    postgresql_where=sa.text("worker IS NULL AND wake_at IS NOT NULL"),
)
sa.Index(
    "ix_runs_worker",
    runs.c.worker,
    sqlite_where=sa.text("worker IS NOT NULL"),
    postgresql_where=sa.text("worker IS NOT NULL"),
)

sa.Index(
    "ix_runs_root",
    runs.c.root_run_id,
    sqlite_where=sa.text("root_run_id IS NOT NULL"),
    postgresql_where=sa.text("root_run_id IS NOT NULL"),
)
sa.Index(
    "ix_runs_parent",
    runs.c.parent_run_id,
    sqlite_where=sa.text("parent_run_id IS NOT NULL"),
    postgresql_where=sa.text("parent_run_id IS NOT NULL"),
)
sa.Index(
    "ix_runs_origin",
    runs.c.origin_run_id,
    sqlite_where=sa.text("origin_run_id IS NOT NULL"),
    postgresql_where=sa.text("origin_run_id IS NOT NULL"),
)
# Retention looks for the trees of a tenant that ended first: children would only be in its way.
sa.Index(
    "ix_runs_ended",
    runs.c.tenant,
    runs.c.ended_at,
    runs.c.run_id,
    sqlite_where=sa.text("ended_at IS NOT NULL AND parent_run_id IS NULL"),
    postgresql_where=sa.text("ended_at IS NOT NULL AND parent_run_id IS NULL"),
)

envelopes: Final = sa.Table("envelopes", metadata, text_column("run_id", key=True), text_column("envelope_json"))

plans: Final = sa.Table(
    "plans",
    metadata,
    text_column("tenant", key=True),
    # SHA-256 of the text below. Not the plan's own hash: that covers what runs, and two plans that run alike may differ
    # in their rationale, estimate and findings.
    text_column("document", key=True),
    text_column("plan_json"),
)

run_plans: Final = sa.Table(
    "run_plans",
    metadata,
    text_column("run_id", key=True),
    number_column("version", key=True),
    text_column("tenant"),
    text_column("plan_hash"),
    text_column("document"),
    text_column("author"),
    text_column("reason"),
    number_column("created_at"),
    sqlite_with_rowid=False,
)
# Retention asks whether a plan is still somebody's.
sa.Index("ix_run_plans_document", run_plans.c.document)

nodes: Final = sa.Table(
    "nodes",
    metadata,
    text_column("run_id", key=True),
    text_column("node_id", key=True),
    text_column("kind"),
    text_column("status"),
    number_column("attempt"),
    number_column("generation"),
    number_column("started_at", null=True),
    number_column("ended_at", null=True),
    number_column("wake_at", null=True),
    text_column("inputs_json", null=True),
    text_column("output_json", null=True),
    text_column("error_json", null=True),
    text_column("history_json", null=True),
    text_column("state_json", null=True),
    _one_of("status", set(NodeStatus) - {NodeStatus.PENDING}),
    postgresql_with={"fillfactor": "70"},
    sqlite_with_rowid=False,
)

events: Final = sa.Table(
    "events",
    metadata,
    text_column("run_id", key=True),
    number_column("seq", key=True),
    text_column("type"),
    text_column("node_id", null=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

prompts: Final = sa.Table(
    "prompts",
    metadata,
    text_column("prompt_id", key=True),
    text_column("run_id"),
    text_column("tenant"),
    text_column("node_id", null=True),
    text_column("kind"),
    text_column("status"),
    text_column("question"),
    text_column("proposed_json"),
    text_column("answer_schema_json"),
    text_column("actions_json"),
    text_column("assignees_json"),
    number_column("quorum"),
    text_column("policy_id", null=True),
    number_column("plan_version"),
    text_column("bound_hash"),
    text_column("on_timeout"),
    number_column("created_at"),
    number_column("due_at", null=True),
    text_column("claimed_by", null=True),
    number_column("settled_at", null=True),
    text_column("decision_json", null=True),
    text_column("policy_json", default="{}"),
    text_column("requester", default=""),
    number_column("level", default="0"),
    number_column("notify_at", null=True),
    text_column("delegations_json", default="[]"),
    _one_of("status", PromptStatus),
)
sa.Index("ix_prompts_page", prompts.c.tenant, prompts.c.status, prompts.c.created_at, prompts.c.prompt_id)
sa.Index("ix_prompts_run", prompts.c.run_id)
sa.Index(
    "ix_prompts_due",
    prompts.c.due_at,
    sqlite_where=sa.text("status = 'open' AND due_at IS NOT NULL AND on_timeout <> 'wait'"),
    postgresql_where=sa.text("status = 'open' AND due_at IS NOT NULL AND on_timeout <> 'wait'"),
)

sa.Index(
    "ix_prompts_notify",
    prompts.c.notify_at,
    sqlite_where=sa.text("status = 'open' AND notify_at IS NOT NULL"),
    postgresql_where=sa.text("status = 'open' AND notify_at IS NOT NULL"),
)

decisions: Final = sa.Table(
    "decisions",
    metadata,
    text_column("decision_id", key=True),
    text_column("prompt_id"),
    text_column("run_id"),
    text_column("tenant"),
    text_column("action"),
    text_column("answer_json", null=True),
    text_column("comment", null=True),
    text_column("decided_by"),
    number_column("decided_at"),
    text_column("channel"),
    sa.Column("winning", sa.Boolean(create_constraint=False), nullable=False),
)
# One voice per person and one winner per prompt, whatever the code above does (H4).
sa.Index("ux_decisions_voice", decisions.c.prompt_id, decisions.c.decided_by, unique=True)
sa.Index(
    "ux_decisions_winner",
    decisions.c.prompt_id,
    unique=True,
    sqlite_where=sa.text("winning"),
    postgresql_where=sa.text("winning"),
)

signals: Final = sa.Table(
    "signals",
    metadata,
    text_column("run_id", key=True),
    # The inbox number it got: per run, gap-free, in commit order.
    number_column("signal_id", key=True),
    text_column("kind"),
    text_column("payload_json"),
    number_column("created_at"),
    text_column("outcome", null=True),
    _one_of("outcome", SIGNAL_OUTCOMES, name="outcome"),
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_signals_pending",
    signals.c.run_id,
    signals.c.signal_id,
    sqlite_where=sa.text("outcome IS NULL"),
    postgresql_where=sa.text("outcome IS NULL"),
)

workers: Final = sa.Table(
    "workers",
    metadata,
    text_column("worker_id", key=True),
    number_column("beat"),
    number_column("beat_at"),
    text_column("info_json"),
)

idempotency_keys: Final = sa.Table(
    "idempotency_keys",
    metadata,
    text_column("tenant", key=True),
    text_column("principal", key=True),
    text_column("key", key=True),
    text_column("fingerprint"),
    text_column("run_id"),
    number_column("expires_at"),
)
sa.Index("ix_idempotency_keys_expiry", idempotency_keys.c.expires_at)

registrations: Final = sa.Table(
    "registrations",
    metadata,
    text_column("tenant", key=True),
    text_column("capability_id", key=True),
    text_column("version", key=True),
    text_column("created_by"),
    number_column("created_at"),
    number_column("beats"),
    number_column("beat_at"),
    # Last, so that reading the columns before it does not touch the pages that a long text spills over to.
    text_column("declaration_json"),
)

# One row per tenant, written with every registration and deletion: its lock settles who comes first, and the others
# notice by its number that something changed, deletions too.
registration_changes: Final = sa.Table(
    "registration_changes", metadata, text_column("tenant", key=True), number_column("changes")
)

# Who did what to prompts and runs (H9). A record is written with what it records; a sealer numbers and chains it later.
audit_records: Final = sa.Table(
    "audit_records",
    metadata,
    text_column("record_id", key=True),
    text_column("tenant"),
    number_column("at"),
    text_column("kind"),
    text_column("actor"),
    text_column("run_id", null=True),
    text_column("prompt_id", null=True),
    text_column("body_json"),
    number_column("seq", null=True),
    text_column("previous", null=True),
    text_column("hash", null=True),
)
sa.Index(
    "ux_audit_records_chain",
    audit_records.c.tenant,
    audit_records.c.seq,
    unique=True,
    sqlite_where=sa.text("seq IS NOT NULL"),
    postgresql_where=sa.text("seq IS NOT NULL"),
)
sa.Index(
    "ix_audit_records_unsealed",
    audit_records.c.tenant,
    audit_records.c.at,
    audit_records.c.record_id,
    sqlite_where=sa.text("seq IS NULL"),
    postgresql_where=sa.text("seq IS NULL"),
)
sa.Index(
    "ix_audit_records_run",
    audit_records.c.tenant,
    audit_records.c.run_id,
    audit_records.c.at,
    audit_records.c.record_id,
    sqlite_where=sa.text("run_id IS NOT NULL"),
    postgresql_where=sa.text("run_id IS NOT NULL"),
)
sa.Index(
    "ix_audit_records_prompt",
    audit_records.c.tenant,
    audit_records.c.prompt_id,
    audit_records.c.at,
    audit_records.c.record_id,
    sqlite_where=sa.text("prompt_id IS NOT NULL"),
    postgresql_where=sa.text("prompt_id IS NOT NULL"),
)
sa.Index("ix_audit_records_page", audit_records.c.tenant, audit_records.c.at, audit_records.c.record_id)

# Where each tenant's chain stands; its row's lock is the sealer's lease.
audit_heads: Final = sa.Table(
    "audit_heads",
    metadata,
    text_column("tenant", key=True),
    number_column("seq"),
    text_column("hash"),
)

# What is left of a chain's beginning when its records were pruned: the chain goes on from here.
audit_checkpoints: Final = sa.Table(
    "audit_checkpoints",
    metadata,
    text_column("tenant", key=True),
    number_column("seq", key=True),
    text_column("hash"),
    number_column("at"),
)

retention_policies: Final = sa.Table(
    "retention_policies",
    metadata,
    text_column("tenant", key=True),
    number_column("runs_days", null=True),
    number_column("audit_days", null=True),
    text_column("updated_by"),
    number_column("updated_at"),
    *(number_column(f"{what}_days", null=True) for what in ("conversations", "documents", "memory")),
)

# What is left of a pruned run: its history summary. Written before anything of it is deleted.
tombstones: Final = sa.Table(
    "tombstones",
    metadata,
    text_column("run_id", key=True),
    text_column("tenant"),
    number_column("created_at"),
    number_column("pruned_at"),
    # Set once nothing but this row is left.
    number_column("emptied_at", null=True),
    text_column("summary_json"),
)
sa.Index("ix_tombstones_page", tombstones.c.tenant, tombstones.c.created_at, tombstones.c.run_id)
sa.Index("ix_tombstones_pruned", tombstones.c.tenant, tombstones.c.pruned_at)
sa.Index(
    "ix_tombstones_emptying",
    tombstones.c.run_id,
    sqlite_where=sa.text("emptied_at IS NULL"),
    postgresql_where=sa.text("emptied_at IS NULL"),
)

# Which pruned run a prompt was of, for links that are older than what they lead to.
pruned_prompts: Final = sa.Table(
    "pruned_prompts", metadata, text_column("prompt_id", key=True), text_column("run_id"), sqlite_with_rowid=False
)
sa.Index("ix_pruned_prompts_run", pruned_prompts.c.run_id)

# Work that one process at a time should do; nothing breaks when two do it.
leases: Final = sa.Table(
    "leases", metadata, text_column("name", key=True), text_column("holder"), number_column("until")
)

# One row per message to one address; sent at least once, by whoever takes it.
notifications: Final = sa.Table(
    "notifications",
    metadata,
    text_column("notification_id", key=True),
    text_column("tenant"),
    text_column("prompt_id"),
    text_column("run_id"),
    text_column("kind"),
    text_column("recipient"),
    number_column("created_at"),
    number_column("wake_at", null=True),
    number_column("attempts"),
    number_column("sent_at", null=True),
    text_column("error", null=True),
)
sa.Index(
    "ix_notifications_due",
    notifications.c.wake_at,
    sqlite_where=sa.text("wake_at IS NOT NULL"),
    postgresql_where=sa.text("wake_at IS NOT NULL"),
)
sa.Index("ix_notifications_prompt", notifications.c.prompt_id)
sa.Index(
    "ix_notifications_sent",
    notifications.c.sent_at,
    sqlite_where=sa.text("sent_at IS NOT NULL"),
    postgresql_where=sa.text("sent_at IS NOT NULL"),
)

# Review links that were sent; a link decides once.
review_links: Final = sa.Table(
    "review_links",
    metadata,
    text_column("link_id", key=True),
    text_column("tenant"),
    text_column("prompt_id"),
    text_column("subject"),
    text_column("roles_json"),
    text_column("groups_json"),
    number_column("expires_at"),
    number_column("used_at", null=True),
)
sa.Index("ix_review_links_prompt", review_links.c.prompt_id)

signing_keys: Final = sa.Table(
    "signing_keys", metadata, text_column("purpose", key=True), text_column("secret"), number_column("created_at")
)

RUN_IS_ACTIVE: Final = among(runs.c.status, RUN_ACTIVE)
NODE_IS_FINAL: Final = among(nodes.c.status, NODE_TERMINAL)
