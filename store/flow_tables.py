"""Tables of what people wrote to be run: flows, their versions, and who uses whom (W2)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.tables import metadata, number_column, runs, text_column

flows: Final = sa.Table(
    "flows",
    metadata,
    text_column("flow_id", key=True),
    text_column("tenant"),
    text_column("name"),
    text_column("description"),
    # The draft, and how often it was written: what its ETag says.
    text_column("draft_json"),
    number_column("revision"),
    number_column("published", null=True),
    text_column("created_by"),
    number_column("created_at"),
    number_column("updated_at"),
)
sa.Index("ix_flows_page", flows.c.tenant, flows.c.created_at, flows.c.flow_id)

# Published versions; nothing here ever changes.
flow_versions: Final = sa.Table(
    "flow_versions",
    metadata,
    text_column("flow_id", key=True),
    number_column("version", key=True),
    text_column("tenant"),
    text_column("document_json"),
    text_column("digest"),
    text_column("author"),
    text_column("note"),
    number_column("created_at"),
)

# Who runs which flow: nodes of flows' newest versions and of templates; ``version`` null: whichever is the newest then.
flow_usages: Final = sa.Table(
    "flow_usages",
    metadata,
    text_column("user_id", key=True),
    text_column("node_id", key=True),
    text_column("flow_id", key=True),
    text_column("via", key=True),
    text_column("tenant"),
    text_column("user_kind"),
    number_column("version", null=True),
)
sa.Index("ix_flow_usages_flow", flow_usages.c.tenant, flow_usages.c.flow_id)

# The flows whose newest version declares itself a capability, and how often a tenant's changed; a tenant that never had
# such a flow has no row.
flow_capabilities: Final = sa.Table(
    "flow_capabilities",
    metadata,
    text_column("flow_id", key=True),
    text_column("tenant"),
    number_column("version"),
)
sa.Index("ix_flow_capabilities_tenant", flow_capabilities.c.tenant, flow_capabilities.c.flow_id)
flow_offer_changes: Final = sa.Table(
    "flow_offer_changes",
    metadata,
    text_column("tenant", key=True),
    number_column("changes"),
)

# Child runs of flows that planners found by themselves; no other run is in it.
_PLANNED: Final = "parent_run_id IS NOT NULL AND flow_id IS NOT NULL"
sa.Index(
    "ix_runs_planned_flow", runs.c.tenant, runs.c.flow_id, runs.c.created_at, runs.c.run_id,
    sqlite_where=sa.text(_PLANNED), postgresql_where=sa.text(_PLANNED),
)  # fmt: skip
