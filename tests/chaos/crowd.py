"""Everybody who uses the service during a scenario: callers with their viewers, people who cancel, operators."""

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.draft import Paper
from tests.chaos.load import Glance, Spec
from tests.chaos.people import PATIENCE_SECONDS, Called, Ledger, Operators, insist
from tests.chaos.talks import Told, said
from tests.chaos.viewers import Frame, Viewer
from tests.chaos.wire import Incoming, opened

LATE = Glance(1, 0.0, (7,))


@dataclass
class Followed:
    """One run as its caller lived it."""

    spec: Spec
    run_ids: set[str] = field(default_factory=set)
    """every id that was ever given for its key"""
    viewers: list[Viewer] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: list[Called] = field(default_factory=list)
    """what the outside world was told"""
    told: list[Told] = field(default_factory=list)
    """what was said to whoever spoke"""
    done: bool = False
    """whether its caller saw everything there was to see"""


class Crowd:
    """Plays specs against services, an arrival after the other, many at once."""

    def __init__(self, bases: Sequence[str], chance: random.Random, ledger: Ledger, most: int = 64) -> None:
        self.followed: list[Followed] = []
        self.operators = Operators(bases, chance, ledger)
        self._bases, self._chance = bases, chance
        self._room = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    async def arrive(self, specs: Sequence[Spec], seconds: float) -> None:
        """Begin these runs, spread over so many seconds; returns when all have begun."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, spec in enumerate(specs):
            await asyncio.sleep(start + seconds * number / len(specs) - loop.time())
            await self._room.acquire()
            followed = Followed(spec)
            self.followed.append(followed)
            task = loop.create_task(_Customer(followed, self._bases, self.operators).live())
            self._tasks.add(task)
            task.add_done_callback(self._left)

    async def settle(self, seconds: float) -> None:
        """Wait until everybody saw the end of what they began, so long at most; who has not is sent home."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if self._errors:
            raise self._errors[0]

    def _left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)


class _Customer:
    """One run: begun, watched by several, answered or cancelled."""

    def __init__(self, followed: Followed, bases: Sequence[str], operators: Operators) -> None:
        self._followed, self._bases, self._operators = followed, bases, operators
        self._spec = followed.spec
        self._known, self._rests = asyncio.Event(), asyncio.Event()
        self._acts: dict[str, asyncio.Task[None]] = {}
        self._count = 0

    async def live(self) -> None:
        """See the run to its end, or to where nothing happens any more because nobody will answer."""
        for paper in self._spec.papers:
            self._act(f"put {paper.document_id} in {paper.story_id}", self._put(paper))
        first, *others = [self._viewer(glance) for glance in self._spec.glances]
        leading = asyncio.create_task(self._lead(first))
        tasks = [asyncio.create_task(self._later(*each)) for each in zip(others, self._spec.glances[1:], strict=True)]
        try:
            await self._either(leading, asyncio.create_task(self._rests.wait()))
            if not self._followed.run_ids:
                return
            pairs = zip(others, tasks, strict=True)
            await asyncio.gather(*(self._reaches(viewer, task, first) for viewer, task in pairs))
            if self._spec.late:
                late = self._viewer(LATE)
                late.run_id = self._run_id
                await self._reaches(late, asyncio.create_task(late.follow()), first)
            await asyncio.gather(*self._acts.values())
            self._followed.done = True
        finally:
            for task in (leading, *tasks, *self._acts.values()):
                task.cancel()

    # --- beginning ---

    async def _lead(self, viewer: Viewer) -> None:
        """Send the envelope until it is taken, then follow; what this viewer sees is reacted to."""
        viewer.on_frame = self._frame
        if self._spec.talks:
            await self._talk()
        elif not self._spec.streamed:
            await self._accept()
        while not self._followed.run_ids and not self._followed.refusals:
            headers = {"Idempotency-Key": self._spec.key}
            stream = opened(
                viewer.base, "POST", "/api/v1/flex/run.stream", body=self._spec.envelope, headers=headers,
                patience=PATIENCE_SECONDS,
            )  # fmt: skip
            await viewer.look(stream, self._opened)
        if self._followed.run_ids:
            viewer.run_id = self._run_id
            await viewer.follow()

    def _opened(self, incoming: Incoming) -> None:
        answer = incoming.answer
        if answer.status == 200:
            self._taken(answer.headers["x-run-id"])
        elif answer.status < 500:
            self._followed.refusals.append(f"the envelope was answered {answer.status}")

    async def _accept(self) -> None:
        answer = await insist(
            self._bases, self._spec.glances[0].first, "POST", "/api/v1/runs", body=self._spec.envelope,
            headers={"Idempotency-Key": self._spec.key},
        )  # fmt: skip
        if answer.status == 202:
            self._taken(answer.json["run_id"])
        else:
            self._followed.refusals.append(f"the envelope was answered {answer.status} {answer.body[:200]!r}")

    async def _talk(self) -> None:
        self._followed.told += await said(self._bases, self._spec.glances[0].first, self._spec.key)
        for told in self._followed.told:
            if told.status == 202:
                self._taken(told.run_id)
            else:
                self._followed.refusals.append(f"a turn was answered {told.status} {told.body[:200]!r}")

    def _taken(self, run_id: str) -> None:
        self._followed.run_ids.add(run_id)
        self._known.set()

    @property
    def _run_id(self) -> str:
        """The run; of several that were given for one key any one, for the auditor sees that there are several."""
        return min(self._followed.run_ids)

    def _viewer(self, glance: Glance) -> Viewer:
        viewer = Viewer(self._bases, "", glance)
        self._followed.viewers.append(viewer)
        return viewer

    # --- watching ---

    @staticmethod
    async def _either(leading: asyncio.Task[None], resting: asyncio.Task[Any]) -> None:
        await asyncio.wait((leading, resting), return_when=asyncio.FIRST_COMPLETED)
        resting.cancel()
        if leading.done():
            leading.result()

    async def _later(self, viewer: Viewer, glance: Glance) -> None:
        await self._known.wait()
        await asyncio.sleep(glance.delay)
        viewer.run_id = self._run_id
        await viewer.follow()

    @staticmethod
    async def _reaches(viewer: Viewer, task: asyncio.Task[None], first: Viewer) -> None:
        """Until this viewer saw as much as the first one."""
        while not viewer.over and viewer.last < first.last:
            await asyncio.wait((task,), timeout=0.05)
            if task.done():
                task.result()
        task.cancel()

    # --- acting ---

    def _frame(self, frame: Frame) -> None:
        """React to what the first viewer sees."""
        self._count += 1
        spec, payload = self._spec, frame["payload"]
        path = f"/api/v1/runs/{frame['run_id']}"
        if frame["type"] == "hitl_request":
            prompt: Mapping[str, Any] = payload["prompt"]
            say = None if prompt["kind"] == "effect_check" else spec.says[prompt["node_id"]]
            self._operators.ask(prompt, say)
        if spec.cancel_after is not None and self._count >= spec.cancel_after:
            self._act("cancel", self._ask(f"{path}/cancel", {"reason": "enough"}))
        if spec.pause_after is not None and self._count >= spec.pause_after:
            self._act("pause", self._ask(f"{path}/pause", {"reason": "not now"}))
        if frame["type"] == "run_waiting":
            self._stands_still(frame["run_id"], payload["waiting_on"], payload["prompt_ids"])

    def _stands_still(self, run_id: str, waiting_on: Sequence[str], prompt_ids: Sequence[str]) -> None:
        if "paused" in waiting_on:
            resume = self._ask(f"/api/v1/runs/{run_id}/resume", {}, delay=0.2)
            self._act(f"resume at {self._count}", resume)
        if "callback" in waiting_on:
            for node_id in self._spec.called:
                self._act(f"call {node_id}", self._call(run_id, node_id))
        nobody = not any(self._operators.knows(prompt_id) for prompt_id in prompt_ids)
        if self._spec.stays_open and list(waiting_on) == ["hitl"] and nobody:
            self._rests.set()

    def _act(self, what: str, doing: Coroutine[Any, Any, None]) -> None:
        """Begin it, unless it was begun before."""
        if what in self._acts:
            doing.close()
        else:
            self._acts[what] = asyncio.create_task(doing)

    async def _ask(self, path: str, body: Mapping[str, Any], *, delay: float = 0.0) -> None:
        """Ask a run for something; it may have ended, or be asked twice: that is no fault."""
        await asyncio.sleep(delay)
        answer = await insist(self._bases, self._spec.glances[0].first + 1, "POST", path, body=body)
        if answer.status not in (200, 202, 409):
            self._followed.refusals.append(f"{path} was answered {answer.status}")

    async def _put(self, paper: Paper) -> None:
        """Put a document that runs wait for; more than once, if nobody says that it was taken."""
        await asyncio.sleep(paper.delay)
        path = f"/api/v1/stories/{paper.story_id}/documents/{paper.document_id}"
        answer = await insist(self._bases, paper.first, "PUT", path, body={"for": paper.story_id})
        if answer.status not in (200, 201):
            self._followed.refusals.append(f"{path} was answered {answer.status} {answer.body[:200]!r}")

    async def _call(self, run_id: str, node_id: str) -> None:
        """Answer for the outside world: two say something different at once."""
        node = await insist(self._bases, 0, "GET", f"/api/v1/runs/{run_id}/nodes/{node_id}")
        url = node.json.get("callback_url")
        if url is not None:  # else somebody cancelled the run meanwhile
            await asyncio.gather(*(self._say(run_id, node_id, url[url.index("/api/") :], who) for who in range(2)))

    async def _say(self, run_id: str, node_id: str, path: str, who: int) -> None:
        output = {"by": who}
        answer = await insist(self._bases, who, "POST", path, body={"status": "completed", "output": output})
        self._followed.calls.append(Called(run_id, node_id, output, answer.status))
