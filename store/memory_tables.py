"""Tables of what is remembered: scopes, and the entries in them (R5)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.tables import metadata, number_column, text_column

# One row per scope that was ever written: writers lock it, its number is the last revision given in it, so that no
# revision comes twice, not after a key was forgotten either. The parts of its name stand apart.
memory_scopes: Final = sa.Table(
    "memory_scopes",
    metadata,
    text_column("tenant", key=True),
    text_column("kind", key=True),
    text_column("owner", key=True),
    text_column("story", key=True),
    number_column("revision"),
    number_column("entries"),
    number_column("updated_at"),
)

# Who wrote an entry: a run's node in an attempt, or a person; the other ones are null.
memory_entries: Final = sa.Table(
    "memory_entries",
    metadata,
    text_column("tenant", key=True),
    text_column("kind", key=True),
    text_column("owner", key=True),
    text_column("story", key=True),
    text_column("key", key=True),
    text_column("value_json"),
    number_column("revision"),
    number_column("created_at"),
    number_column("updated_at"),
    text_column("run_id", null=True),
    text_column("node_id", null=True),
    number_column("attempt", null=True),
    text_column("person", null=True),
)
sa.Index(
    "ix_memory_entries_newest",
    memory_entries.c.tenant,
    memory_entries.c.kind,
    memory_entries.c.owner,
    memory_entries.c.story,
    memory_entries.c.revision,
)
sa.Index("ix_memory_entries_updated", memory_entries.c.tenant, memory_entries.c.updated_at)
