"""The agents folder: put together at start, and looked at every second in development (R2)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from app.settings import Settings
from capabilities.agent_folder import AgentFolder
from capabilities.directory import LiveDirectory
from capabilities.registry import Registry
from capabilities.world import World
from contracts.ports import Planner
from service.agents import Agents
from service.verdicts import Verdicts
from store.connect import Database

_log = structlog.get_logger(__name__)
LOOK_SECONDS: Final = 1.0


def open_agents(
    settings: Settings, world: World, registry: Registry, directory: LiveDirectory, planner: Planner, database: Database
) -> Agents:
    """Read the configured folder into ``registry``; broken files are told in the log and stop nobody.

    Raises ``OSError`` when the folder itself cannot be read.
    """
    folder = None
    if settings.agents_dir is not None:
        folder = AgentFolder(Path(settings.agents_dir), world, registry.fork())
    agents = Agents(folder, registry, Verdicts(planner, database), directory.redeclared)
    agents.open()
    return agents


class AgentsLook:
    """Takes over what changes in the folder; a look that fails changes nothing and is made again."""

    def __init__(self, agents: Agents) -> None:
        """Look on behalf of this process."""
        self._agents = agents

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._agents.look()
            except OSError as error:
                _log.warning("agents_unknown", why=error.strerror or type(error).__name__)
            except Exception:  # noqa: BLE001  # one broken look must not end all looking; the log has it
                _log.exception("agents_look_broke")
