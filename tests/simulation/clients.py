"""Clients: they submit runs, follow them, and meddle with them while they live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from contracts.errors import FlexError
from tests.simulation.outside import ANYWHERE, BEN, LOCAL, UNANSWERED, Client, Outside, Seen
from tests.simulation.process import Process, Unreachable


class Clients:
    """Everybody who has runs."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._chance = outside, outside.chance

    def begin(self, client: Client) -> None:
        """Submit a run, and do with it whatever comes to mind."""
        outside, chance = self._outside, self._chance
        outside.clients.append(client)
        outside.start(self._submit(client))
        whims: tuple[tuple[float, Callable[[Client], Coroutine[Any, Any, None]]], ...] = (
            (0.15, self._cancel),
            (0.40, self._view),
            (0.15, self._pause),
            (0.10, self._edit),
            (0.10, self._trigger),
            (0.10, self._fork),
        )
        for often, whim in whims:
            if chance.random() < often:
                outside.start(whim(client))

    async def relieve(self) -> None:
        """Resume whatever is still paused, until cancelled: whoever paused it has gone."""
        sql = "SELECT run_id FROM runs WHERE ended_at IS NULL AND ledger_json LIKE '%\"paused\":{%' ORDER BY run_id"
        while True:
            await asyncio.sleep(1.0)
            for (run_id,) in self._outside.file.rows(sql):
                await self._resume(run_id)

    async def _submit(self, client: Client) -> None:
        """Submit until it is accepted; now and then once more with the same key."""
        await asyncio.sleep(client.at)
        for _ in range(2 if self._chance.random() < 0.15 else 1):
            accepted = await self._outside.insist(
                lambda process: process.runs.submit(client.body, LOCAL, key=client.key)
            )
            client.accepted.append(accepted)
            client.known.set()
            self._outside.tell("accepted", client.key, accepted.run_id, accepted.created)
            await asyncio.sleep(self._chance.random())

    async def _view(self, client: Client) -> None:
        """Follow a run to its end, over as many connections as it takes."""
        seen = Seen(await client.run_id())
        self._outside.seen.append(seen)
        while not seen.over:
            seen.connection += 1
            try:
                await self._outside.ask(lambda process: _watch(process, seen, seen.connection), 30.0)
            except UNANSWERED:
                await asyncio.sleep(ANYWHERE)

    # --- meddling ----------------------------------------------------------------------------------------------------

    async def _soon(self, client: Client) -> str:
        """Wait a while after a run was accepted; return its id."""
        run_id = await client.run_id()
        await asyncio.sleep(self._chance.choice([0.0, 0.02, 1.0, 6.0]) * self._chance.random())
        return run_id

    async def _cancel(self, client: Client) -> None:
        run_id = await self._soon(client)
        await self._quietly("cancels", run_id, lambda process: process.control.cancel(LOCAL, run_id, "No more."))

    async def _pause(self, client: Client) -> None:
        """Pause a run and let it go on later, sometimes more than once."""
        run_id = await self._soon(client)
        for _ in range(self._chance.choice([1, 1, 2])):
            await self._quietly("pauses", run_id, lambda process: process.control.pause(LOCAL, run_id))
            await asyncio.sleep(self._chance.random() * self._chance.choice([0.05, 2.0]))
            await self._resume(run_id)

    async def _resume(self, run_id: str) -> None:
        await self._quietly("resumes", run_id, lambda process: process.control.resume(BEN, run_id))

    async def _trigger(self, client: Client) -> None:
        """Fire a runtime rule by hand, if there is such a rule."""
        run_id = await self._soon(client)
        await self._quietly("triggers", run_id, lambda process: process.editing.trigger(LOCAL, run_id, "by_hand"))

    async def _edit(self, client: Client) -> None:
        """Change the plan of a run under way: something new at its end, some calls other than they were."""
        run_id = await self._soon(client)
        file, chance = self._outside.file, self._chance
        rows = file.rows(
            "SELECT p.plan_json, r.plan_version FROM runs r JOIN run_plans v ON v.run_id = r.run_id"
            " AND v.version = r.plan_version JOIN plans p ON p.document = v.document WHERE r.run_id = ?",
            run_id,
        )
        if not rows:
            return
        plan: dict[str, Any] = orjson.loads(rows[0][0])
        begun = {name for (name,) in file.rows("SELECT node_id FROM nodes WHERE run_id = ?", run_id)}
        calls = [node for node in plan["nodes"] if node["kind"] == "call"]
        cancel = [node["node_id"] for node in calls if node["node_id"] in begun and chance.random() < 0.3]
        for node in calls:
            if node["node_id"] not in begun or node["node_id"] in cancel:
                node["inputs"] = {**node.get("inputs", {}), "script": {"value": ["ok"]}}
        nodes = [node for node in plan["nodes"] if "guards" not in node]
        kept = {node["node_id"] for node in nodes}
        edges = [edge for edge in plan["edges"] if {edge["from"], edge["to"]} <= kept]
        nodes.append({"node_id": f"more_{chance.randrange(3)}", "kind": "call", "capability_id": "sim.none"})
        edited = {"nodes": nodes, "edges": edges, "output": plan["output"]}
        body = {"base_version": rows[0][1], "plan": edited, "cancel": cancel, "reason": "Better so."}
        await self._quietly("edits", run_id, lambda process: process.editing.edit(LOCAL, run_id, body))

    async def _fork(self, client: Client) -> None:
        """Start another run out of this one: from where it failed, or at one of its nodes."""
        run_id = await self._soon(client)
        await asyncio.sleep(self._chance.random() * 8)
        rows = self._outside.file.rows("SELECT node_id FROM nodes WHERE run_id = ? ORDER BY 1", run_id)
        nodes = [name for (name,) in rows]
        key = f"{client.key}-again"
        body: Any = None
        if nodes and self._chance.random() < 0.6:
            body = {"node_id": self._chance.choice(nodes)}

        async def work(process: Process) -> str:
            if body is None:
                forked = await process.lineages.retry(LOCAL, run_id, key=key)
            else:
                forked = await process.lineages.fork(LOCAL, run_id, body, key=key)
            return forked.run_id

        made = await self._quietly("forks", run_id, work)
        if made is not None:
            self._outside.made.add(made)

    async def _quietly(self, what: str, run_id: str, work: Callable[[Process], Coroutine[Any, Any, Any]]) -> Any:
        """Do something whose refusal is fine; return what came of it."""
        try:
            made = await self._outside.insist(work, tries=20)
            self._outside.tell(what, run_id)
            return made
        except Unreachable:
            self._outside.tell(what, run_id, "unknown")
        except FlexError as error:
            self._outside.tell(what, run_id, error.code)
        return None


async def _watch(process: Process, seen: Seen, connection: int) -> None:
    """One connection of a viewer: as ``routes/stream.py`` does, but the frames go straight to the viewer."""
    after = max(seen.frames, default=0)
    watch = process.feed.watch(LOCAL.tenant, seen.run_id, after)
    try:
        while batch := await watch.batch():
            if seen.connection != connection:
                return
            for frame in batch:
                if frame.seq is None:
                    continue
                if frame.seq in seen.frames:
                    seen.doubled.append(frame.seq)
                seen.frames[frame.seq] = frame.data
        seen.over = watch.over
    finally:
        watch.close()
