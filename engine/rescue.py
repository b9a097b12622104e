"""What keeps runs owned: beating, seeing who died, and claiming what is due; nothing is one-shot (design §4)."""

from __future__ import annotations

import asyncio

import structlog

from contracts.errors import StoreUnavailable
from engine.worker import Worker
from store import workers

_log = structlog.get_logger("flex.engine")


class Rescue:
    """The loops of one worker. A worker is dead once its beat stood still for a full lease of *our* monotonic clock.

    Our clock only counts while we look and the database answers: neither an outage nor our own sleep kills anybody.
    An observer that is only slow still finds who died, since it keeps a part of the time.
    """

    def __init__(self, worker: Worker) -> None:
        """Watch on behalf of ``worker``."""
        self._worker = worker
        self._seen: dict[str, tuple[int, float]] = {}
        self._answered_at = worker.shell.clock.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to beat, to look, and to claim."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._beating()), loop.create_task(self._looking())]

    async def stop(self) -> None:
        """End the loops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beating(self) -> None:
        """Beat three times a lease, sooner after a miss; a worker that missed its lease drops its runs."""
        worker, lease = self._worker, self._worker.limits.lease_seconds
        wait = lease / 3
        while not worker.left:
            await asyncio.sleep(wait)
            try:
                async with asyncio.timeout(lease):
                    await (worker.beat() if worker.lease_holds() else worker.lose())
                wait = lease / 3
            except (StoreUnavailable, TimeoutError):
                if wait == lease / 3:
                    _log.warning("beat_missed", worker=worker.worker_id)
                wait = lease / 12

    async def _looking(self) -> None:
        """Look for dead workers and due runs, at least once a second."""
        worker = self._worker
        while True:  # a periodic look is the point: it needs no event to find what was lost
            await asyncio.sleep(worker.limits.look_every)
            try:
                await self.look()
            except StoreUnavailable:
                # Who could not be seen could not beat either: everybody gets a full lease again.
                self._seen.clear()
                _log.warning("look_failed", worker=worker.worker_id)
            except Exception:  # noqa: BLE001  # one broken look must not end all looking; the log has it
                _log.exception("look_broke", worker=worker.worker_id)

    def _discount(self, seconds: float) -> None:
        """Count a quarter of a lease for a time without a look that was longer than half of one, and not all of it."""
        lease = self._worker.limits.lease_seconds
        if seconds > lease / 2:
            excess = seconds - lease / 4
            self._seen = {worker_id: (beat, since + excess) for worker_id, (beat, since) in self._seen.items()}

    async def look(self) -> None:
        """Take the runs of workers whose beat stood still for a lease, then see to those runs and to the worker's."""
        worker = self._worker
        lease = worker.limits.lease_seconds
        seen = await worker.look()
        now = worker.shell.clock.monotonic()
        self._discount(now - self._answered_at)
        self._answered_at = now
        for each in seen.beats:
            known = self._seen.get(each.worker_id)
            if known is None or known[0] != each.beat:
                self._seen[each.worker_id] = (each.beat, now)
            elif now - known[1] >= lease and each.worker_id != worker.worker_id:
                seen.due[:0] = await self._bury(each.worker_id)
        alive = {each.worker_id for each in seen.beats}
        for gone in [worker_id for worker_id in self._seen if worker_id not in alive]:
            del self._seen[gone]
        await worker.heed(seen)

    async def _bury(self, worker_id: str) -> list[tuple[str, int]]:
        """Take a dead worker's runs away; return them as due now."""
        shell = self._worker.shell
        now_ms = shell.clock.now_ms()
        taken = await workers.bury(shell.database, worker_id, now_ms)
        _log.warning("worker_buried", worker=worker_id, runs=len(taken))
        del self._seen[worker_id]
        return [(run_id, now_ms) for run_id in taken]
