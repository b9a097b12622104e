"""Tables of what people wrote to be run: flows, their versions, and who uses whom (W2)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.tables import metadata, number_column, text_column

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

# Which flow's newest version runs which other flow; ``version`` null: whichever is the newest then.
flow_uses: Final = sa.Table(
    "flow_uses",
    metadata,
    text_column("user_id", key=True),
    text_column("node_id", key=True),
    text_column("tenant"),
    text_column("flow_id"),
    number_column("version", null=True),
)
sa.Index("ix_flow_uses_flow", flow_uses.c.tenant, flow_uses.c.flow_id)
