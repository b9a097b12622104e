"""The history: one row per execution that ended, written in the transaction that ends it (T1, T5)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.tables import metadata, number_column, runs, text_column

history: Final = sa.Table(
    "history",
    metadata,
    text_column("run_id", key=True),
    text_column("tenant"),
    text_column("principal"),
    text_column("status"),
    text_column("way"),
    text_column("trigger"),
    text_column("flow_id", null=True),
    number_column("flow_version", null=True),
    text_column("flow_name", null=True),
    text_column("template_id", null=True),
    text_column("template_name", null=True),
    text_column("story_id", null=True),
    text_column("tool", null=True),
    text_column("objective"),
    text_column("preview"),
    # Different words in lower case, one space between them: what a search by text looks at.
    text_column("words"),
    number_column("created_at"),
    number_column("started_at", null=True),
    number_column("ended_at"),
    number_column("duration_ms"),
    number_column("waited_ms"),
    number_column("asks"),
    number_column("tokens"),
    sa.Column("cost", sa.Double, nullable=False),
    text_column("error_code", null=True),
    text_column("error_message", null=True),
    text_column("failed_node_id", null=True),
    text_column("origin_run_id", null=True),
)
sa.Index("ix_history_page", history.c.tenant, history.c.created_at, history.c.run_id)
sa.Index("ix_history_status", history.c.tenant, history.c.status, history.c.created_at, history.c.run_id)
sa.Index(
    "ix_history_flow_status", history.c.tenant, history.c.flow_id, history.c.status, history.c.created_at,
    history.c.run_id, sqlite_where=sa.text("flow_id IS NOT NULL"), postgresql_where=sa.text("flow_id IS NOT NULL"),
)  # fmt: skip
for _name in ("flow_id", "template_id", "story_id"):
    sa.Index(
        f"ix_history_{_name.removesuffix('_id')}",
        history.c.tenant,
        history.c[_name],
        history.c.created_at,
        history.c.run_id,
        sqlite_where=sa.text(f"{_name} IS NOT NULL"),
        postgresql_where=sa.text(f"{_name} IS NOT NULL"),
    )
# SQLite has no index over the words of a text: there a search reads rows in the order of time.
sa.Index(
    "ix_history_words", sa.text("array_to_tsvector(string_to_array(words, ' '))"), postgresql_using="gin",
    _table=history,
).ddl_if(dialect="postgresql")  # fmt: skip

# Executions that have not ended are read from the runs themselves: these two hold live ones only.
_LIVE: Final = "ended_at IS NULL AND parent_run_id IS NULL"
sa.Index(
    "ix_runs_live", runs.c.tenant, runs.c.created_at, runs.c.run_id, sqlite_where=sa.text(_LIVE),
    postgresql_where=sa.text(_LIVE),
)  # fmt: skip
sa.Index(
    "ix_runs_live_flow", runs.c.tenant, runs.c.flow_id, runs.c.created_at, runs.c.run_id,
    sqlite_where=sa.text(f"{_LIVE} AND flow_id IS NOT NULL"),
    postgresql_where=sa.text(f"{_LIVE} AND flow_id IS NOT NULL"),
)  # fmt: skip
sa.Index(
    "ix_runs_live_story", runs.c.tenant, runs.c.story_id,
    sqlite_where=sa.text(f"{_LIVE} AND story_id IS NOT NULL"),
    postgresql_where=sa.text(f"{_LIVE} AND story_id IS NOT NULL"),
)  # fmt: skip
