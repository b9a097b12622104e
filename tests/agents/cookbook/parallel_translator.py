"""A parallel batch: asynchronous calls that are under way at the same time."""

# mypy: disable-error-code="misc"

from __future__ import annotations

import asyncio
from typing import Any

from pocketflow import AsyncFlow, AsyncParallelBatchNode


class Translate(AsyncParallelBatchNode):
    async def prep_async(self, shared: dict[str, Any]) -> list[tuple[str, asyncio.Barrier]]:
        # Nobody passes before everybody is there: one after the other would never end.
        together = asyncio.Barrier(len(shared["languages"]))
        return [(language, together) for language in shared["languages"]]

    async def exec_async(self, prep_res: tuple[str, asyncio.Barrier]) -> str:
        language, together = prep_res
        await together.wait()
        return language.upper()

    async def post_async(self, shared: dict[str, Any], prep_res: Any, exec_res: list[str]) -> str:
        shared["result"] = exec_res
        return "default"


flow = AsyncFlow(start=Translate())
