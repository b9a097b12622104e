"""How long things are kept, and who prunes: from the settings (P6)."""

from __future__ import annotations

from collections.abc import Callable

from app.settings import Settings
from contracts.ports import Ids
from service.pruning import Pruner
from service.retention import Keep
from store.connect import Database


def keep_of_settings(settings: Settings) -> Keep:
    """Return how long things are kept where a tenant says nothing; 0 in a setting is for ever."""
    return Keep(
        settings.retention_days or None,
        settings.audit_retention_days or None,
        settings.conversation_retention_days or None,
        settings.document_retention_days or None,
        settings.memory_retention_days or None,
    )


def build_pruner(
    settings: Settings, database: Database, ids: Ids, count: Callable[[str, int], None] | None = None
) -> Pruner:
    """Return the pruner of this process; ``count`` is told of everything that goes, by table."""
    defaults = keep_of_settings(settings)
    return Pruner(database, ids, defaults) if count is None else Pruner(database, ids, defaults, count=count)
