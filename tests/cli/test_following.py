"""Following a run over HTTP: lost connections, prompts asked or left, exit codes; the service's part is a recording."""

import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.commands.exits import CANCELLED, FAILED, OK, REFUSED, WAITING, CommandError
from app.commands.following import Follower
from app.commands.remote import Remote, open_remote
from app.commands.screen import Screen
from contracts import events as e
from contracts.errors import AnswerInvalid, ErrorItem, FlexError, PromptSettled, RunNotFound
from contracts.events import Frame, sse
from tests.cli.recorded import DECISION, FINDING, PROMPT, frame
from tests.cli.test_asking import Typist

GATED: list[tuple[e.Event, str | None]] = [
    (e.Start("x", "c", {}), None),
    (e.HitlRequest(PROMPT), "sign_off"),
    (e.RunWaiting(["hitl"], ["prm_01"], None), None),
    (e.HitlResolved("prm_01", "settled", DECISION), "sign_off"),
    (e.RunResumed("decision"), None),
    (e.Complete({"variants": []}, 10, 5, {"tokens": 0, "cost": 0}), None),
]


class Recording:
    """A service that plays a recording: ``drop`` closes the first connections after so many frames."""

    def __init__(self, events: Sequence[tuple[e.Event, str | None]], drop: Sequence[int] = ()) -> None:
        self.frames = [frame(event, seq, node_id=node) for seq, (event, node) in enumerate(events, 1)]
        self.drops = list(drop)
        self.afters: list[int] = []
        self.posted: list[Any] = []
        self.refusals: list[FlexError] = []
        self.status = "completed"
        self.open = [PROMPT]
        path = "/api/v1/prompts/{id}/decisions"
        self.app = Starlette(
            routes=[
                Route("/api/v1/runs/{id}/events", self.events),
                Route("/api/v1/runs/{id}", self.run),
                Route("/api/v1/prompts/{id}", self.prompt),
                Route(path, self.decide, methods=["POST"]),
            ]
        )

    async def events(self, request: Request) -> Response:
        after = int(request.query_params["after"])
        self.afters.append(after)
        rest = self.frames[after:]
        if not rest:
            return Response(status_code=204)
        if self.drops:
            rest = rest[: self.drops.pop(0)]
        return StreamingResponse(self.body(rest), media_type="text/event-stream")

    async def body(self, frames: Sequence[Mapping[str, Any]]) -> AsyncIterator[bytes]:
        yield b": heartbeat\n\nretry: 2000\n\n"
        for item in frames:
            yield sse(Frame(item["id"], item["type"], orjson.dumps(item)))

    async def run(self, request: Request) -> Response:
        if request.path_params["id"] != "run_01":
            return JSONResponse(RunNotFound("There is no run x.").as_problem("cid"), 404)
        return JSONResponse({"run_id": "run_01", "status": self.status, "open_prompts": self.open})

    async def prompt(self, _request: Request) -> Response:
        return JSONResponse(PROMPT)

    async def decide(self, request: Request) -> Response:
        self.posted.append(await request.json())
        if self.refusals:
            error = self.refusals.pop(0)
            return JSONResponse(error.as_problem("cid"), error.status)
        return JSONResponse({"decision": DECISION, "prompt": {"status": "settled"}, "run": {"status": "running"}})


class Shown:
    """What a follower printed."""

    def __init__(self, recording: Recording, person: Typist | None = None, **options: Any) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(recording.app), base_url="http://flex")
        self.follower = Follower(Remote(client, "http://flex"), Screen(self.out, self.err), person, **options)

    async def follow(self, run_id: str = "run_01", after: int = 0) -> int:
        return await self.follower.follow(run_id, after)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are opened again at once."""
    monkeypatch.setattr("app.commands.remote._RETRY_SECONDS", (0.0,) * 5)


async def test_a_lost_connection_is_opened_again_after_the_last_frame_and_nothing_is_shown_twice() -> None:
    """F9 (ag-ui#2105): the stream is resumable."""
    recording = Recording(GATED, drop=[2, 1, 1])
    shown = Shown(recording, as_json=True, wait=True)
    assert await shown.follow() == OK
    assert recording.afters == [0, 2, 3, 4]
    assert [orjson.loads(line)["id"] for line in shown.out.getvalue().splitlines()] == [1, 2, 3, 4, 5, 6]
    assert shown.err.getvalue() == ""


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (e.Complete("# text", 1, 0, {"tokens": 0, "cost": 0}), OK),
        (e.Failed("node_failed", "no", "x", [], False), FAILED),
        (e.Cancelled("user:ana", None), CANCELLED),
    ],
)
async def test_the_exit_code_is_the_terminal_frames(last: e.Event, code: int) -> None:
    """Documented in docs/cli.md; stdout holds the answer alone."""
    shown = Shown(Recording([(last, None)]))
    assert await shown.follow() == code
    assert shown.out.getvalue() == ("# text\n" if code == OK else "")


async def test_a_refused_plan_ends_with_what_to_do_next() -> None:
    """F4, R9."""
    ending = (e.Failed("no_plan", "No plan.", None, [FINDING], False), None)
    shown = Shown(Recording([(e.PlanRejected(1, [FINDING]), None), ending]))
    assert await shown.follow() == FAILED
    assert all(
        part in shown.err.getvalue() for part in ("Give a bundle company_profile.", "last_resort", "--capabilities")
    )


async def test_without_a_person_the_command_says_how_to_decide_and_ends_as_waiting() -> None:
    """H1: nobody blocks; exit code 3 and a command that can be copied."""
    shown = Shown(Recording(GATED))
    assert await shown.follow() == WAITING
    said = shown.err.getvalue()
    assert "curl -X POST http://flex/api/v1/prompts/prm_01/decisions" in said
    assert '{"action":"approve"}' in said
    assert "flex runs tail run_01 --url http://flex" in said
    assert shown.out.getvalue() == ""


async def test_a_wait_that_is_long_past_is_only_shown() -> None:
    """Following from the beginning: what was asked then may be decided by now."""
    recording = Recording(GATED)
    recording.open = []
    assert await Shown(recording).follow() == OK
    assert await Shown(recording, Typist()).follow() == OK
    assert recording.posted == []


async def test_a_person_is_asked_and_the_run_goes_on() -> None:
    """H2."""
    recording = Recording(GATED)
    shown = Shown(recording, Typist("approve"))
    assert await shown.follow() == OK
    assert recording.posted == [{"action": "approve", "bound_hash": "h"}]
    assert orjson.loads(shown.out.getvalue()) == {"variants": []}


async def test_a_refused_answer_is_asked_for_again_with_its_places() -> None:
    """H4."""
    recording = Recording(GATED)
    recording.refusals.append(AnswerInvalid(errors=[ErrorItem("/answer/variants", "type", "is not a list")]))
    shown = Shown(recording, Typist("edit", '{"variants": 1}', "approve"))
    assert await shown.follow() == OK
    assert [decision["action"] for decision in recording.posted] == ["edit", "approve"]
    assert "/answer/variants: is not a list" in shown.err.getvalue()


async def test_somebody_else_was_faster() -> None:
    """H4: the terminal says who and when, and goes on."""
    recording = Recording(GATED)
    recording.refusals.append(PromptSettled("Decided.", decided_by="user:ben", decided_at="2026-01-05T09:00:00.000Z"))
    shown = Shown(recording, Typist("approve"))
    assert await shown.follow() == OK
    assert "user:ben decided at 2026-01-05T09:00:00.000Z." in shown.err.getvalue()


async def test_later_leaves_the_run_waiting() -> None:
    """H1: leaving is no decision."""
    recording = Recording(GATED)
    shown = Shown(recording, Typist("later"))
    assert await shown.follow() == WAITING
    assert recording.posted == []


async def test_a_run_that_had_ended_is_told_by_its_row() -> None:
    """204 after the last frame."""
    recording = Recording(GATED)
    assert await Shown(recording).follow(after=6) == OK
    recording.status = "failed"
    assert await Shown(recording).follow(after=6) == FAILED
    recording.status = "running"
    with pytest.raises(CommandError):
        await Shown(recording).follow(after=6)


async def test_problems_become_sentences_and_exit_codes() -> None:
    """P3: 4xx is 2, anything else 1; no traceback."""
    with pytest.raises(CommandError) as missing:
        await Shown(Recording(GATED)).follower.door.run("run_02")
    assert (missing.value.exit_code, missing.value.message) == (REFUSED, "There is no run x. (run_not_found)")
    async with open_remote("http://127.0.0.1:9") as nobody:
        with pytest.raises(CommandError) as away:
            await nobody.runs({})
    assert away.value.exit_code == FAILED
    assert "Is `flex serve` running there?" in away.value.message
