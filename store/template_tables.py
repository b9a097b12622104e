"""Templates that a tenant wrote (W3); those that come with flex are files."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.tables import metadata, number_column, text_column

templates: Final = sa.Table(
    "templates",
    metadata,
    text_column("template_id", key=True),
    text_column("tenant"),
    text_column("name"),
    text_column("category"),
    text_column("document_json"),
    number_column("revision"),
    text_column("created_by"),
    number_column("created_at"),
    number_column("updated_at"),
)
sa.Index("ix_templates_page", templates.c.tenant, templates.c.created_at, templates.c.template_id)
