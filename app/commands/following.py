"""Following a run to its end on a screen: frames as lines, prompts asked or left to others (docs/cli.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.commands.door import Door
from app.commands.exits import FAILED, OF_FRAME, OF_STATUS, WAITING, CommandError
from app.commands.plan_view import next_steps
from app.commands.screen import Screen
from app.commands.terminal import Person, decision_for
from app.commands.timeline import Timeline
from contracts.events import TERMINAL

SKELETONS = {"edit": ',"answer":{}', "answer": ',"answer":{}', "choose": ',"answer":null'}


@dataclass(slots=True)
class Follower:
    """Shows one run. ``person`` is asked when there is one; else the run is left waiting unless ``wait`` is set."""

    door: Door
    screen: Screen
    person: Person | None = None
    as_json: bool = False
    wait: bool = False
    timeline: Timeline = field(default_factory=Timeline)
    findings: list[Mapping[str, Any]] = field(default_factory=list)
    later: set[str] = field(default_factory=set)

    async def follow(self, run_id: str, after: int = 0) -> int:
        """Show the run's frames and return the exit code."""
        if self.timeline.decide_hint is None and self.person is None:
            self.timeline.decide_hint = lambda prompt: decide_hint(prompt, self.door.where)
        frames = self.door.frames(run_id, after)
        try:
            async for frame in frames:
                self._show(frame)
                if frame["type"] in TERMINAL:
                    return self._end(frame)
                if frame["type"] == "run_waiting" and await self._leave(run_id):
                    return self._left(run_id)
        finally:
            close = getattr(frames, "aclose", None)
            if close is not None:
                await close()
        return await self._ended_before(run_id)

    def _show(self, frame: Mapping[str, Any]) -> None:
        if self.as_json:
            self.timeline.lines(frame)
            self.screen.json(frame)
            return
        if frame["type"] == "node_delta":
            self.screen.delta(frame["node_id"], frame["payload"]["text"], frame["payload"]["offset"])
            return
        if frame["type"] == "plan_rejected":
            self.findings = list(frame["payload"]["findings"])
        self.screen.timeline(self.timeline.lines(frame))

    async def _leave(self, run_id: str) -> bool:
        """Ask the person, if there is one; say whether to stop following because others are awaited.

        What the frames say may be long past when a run is followed from its beginning, so the run's row is asked.
        """
        if "hitl" not in self.timeline.waiting_on or (self.wait and self.person is None):
            return False
        open_now = [prompt["prompt_id"] for prompt in (await self.door.run(run_id))["open_prompts"]]
        for prompt_id in open_now:
            if self.person is None or (prompt_id not in self.later and not await self._ask(prompt_id, self.person)):
                self.later.add(prompt_id)
        return not self.wait and bool(open_now) and self.later.issuperset(open_now)

    async def _ask(self, prompt_id: str, person: Person) -> bool:
        """Ask until the service takes the decision; say whether it was decided (by whomever)."""
        while True:
            decision = await decision_for(await self.door.prompt(prompt_id), person, self.screen)
            if decision is None:
                return False
            try:
                decided = await self.door.decide(prompt_id, decision)
            except CommandError as error:
                self.screen.error(error.message)
                code = (error.problem or {}).get("code")
                if code in ("prompt_settled", "invalid_run_state"):
                    return True
                if code != "answer_invalid":
                    return False
                continue
            if decided["prompt"]["status"] == "open":
                self.screen.say("Noted. Other people are still to decide.")
                return False
            return True

    def _end(self, frame: Mapping[str, Any]) -> int:
        if self.as_json:
            return OF_FRAME[frame["type"]]
        payload = frame["payload"]
        if frame["type"] == "complete":
            self.screen.result(payload["output"])
        elif payload.get("code") == "no_plan":
            self.screen.say("What you can do:", "bold")
            for step in next_steps(self.findings or payload.get("errors") or ()):
                self.screen.say(f"  - {step}")
        return OF_FRAME[frame["type"]]

    def _left(self, run_id: str) -> int:
        if not self.as_json:
            for prompt in self.timeline.open_prompts.values():
                if self.person is not None and prompt["prompt_id"] in self.later:
                    for text in decide_hint(prompt, self.door.where):
                        self.screen.say(text)
            self.screen.say(
                f"The run waits for people. Go on watching: flex runs tail {run_id} {self.door.where}".rstrip()
            )
        return WAITING

    async def _ended_before(self, run_id: str) -> int:
        """The log had ended at or before where we started: tell by the run's row."""
        run = await self.door.run(run_id)
        if run["status"] not in OF_STATUS:
            raise CommandError(f"The stream of {run_id} ended while the run is {run['status']}.", exit_code=FAILED)
        return OF_STATUS[run["status"]]


def decide_hint(prompt: Mapping[str, Any], where: str) -> list[str]:
    """Return the ready command that decides a prompt, one line per action that fits on one."""
    prompt_id = prompt["prompt_id"]
    if where.startswith("--url "):
        action = prompt["actions"][0]
        body = f'{{"action":"{action}"{SKELETONS.get(action, "")}}}'
        address = where.removeprefix("--url ").rstrip("/") + prompt["links"]["decide"]
        return [f"curl -X POST {address} -H 'Content-Type: application/json' -d '{body}'"]
    lines = []
    for action in prompt["actions"]:
        answer = " --answer FILE.json" if action in SKELETONS else ""
        lines.append(f"flex prompts decide {prompt_id} {action}{answer} {where}".rstrip())
    return lines
