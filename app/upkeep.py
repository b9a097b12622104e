"""What keeps the house in order beside all work: audit records are sealed, what is old is pruned (H9, P6)."""

from __future__ import annotations

import asyncio
from typing import Any

from app.keeping import build_pruner
from app.metrics import ServiceMetrics
from app.settings import Settings
from contracts.ports import Ids
from hitl.sealing import Sealer
from routes.doors import Metrics
from store.connect import Database


def start_upkeep(settings: Settings, database: Database, ids: Ids, metrics: Metrics) -> list[asyncio.Task[Any]]:
    """Start sealing and pruning; the tasks run until they are cancelled."""
    known = metrics if isinstance(metrics, ServiceMetrics) else ServiceMetrics()
    loop = asyncio.get_running_loop()
    return [
        loop.create_task(Sealer(database, count=known.sealed).run()),
        loop.create_task(build_pruner(settings, database, ids, known.pruned).run()),
    ]
