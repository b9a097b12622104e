"""One call of a registered capability, over a real connection: what each answer amounts to (F15, F6)."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from capabilities.egress import EgressPolicy
from capabilities.remote import RemoteCapability
from contracts.capability import Bundle, CapabilityError, Result
from contracts.outcome import Fail, Usage
from contracts.registration import read_registration
from tests.capabilities.calls import Call, bundle
from tests.capabilities.web import Answer, Asked, serving
from tests.registrations.running import declaration, says

LOCAL = EgressPolicy(frozenset({"127.0.0.1"}))
Say = Callable[[Asked], Answer]


def remote(url: str, effects: str = "idempotent", seconds: float = 10.0) -> RemoteCapability:
    spec = read_registration(declaration(url, effects=effects)).spec()
    return RemoteCapability(spec, url, LOCAL, seconds)


async def call(answer: Say, effects: str = "idempotent", asked: Bundle | None = None) -> Any:
    async with serving(answer) as server:
        return await remote(server.url, effects).run(asked or bundle({"town": "Bern"}), Call())


async def failure(answer: Say, effects: str = "idempotent") -> CapabilityError:
    with pytest.raises(CapabilityError) as failed:
        await call(answer, effects)
    return failed.value


def told(error: CapabilityError) -> tuple[str, bool, int | None]:
    return error.code, error.retryable, error.after_ms


def raw(body: bytes, status: int = 200, **more: Any) -> Say:
    return lambda _: Answer(status, pieces=(body,), **more)


async def test_an_output_with_and_without_its_cost() -> None:
    assert await call(says({"output": None})) == Result(None, Usage())
    said = await call(says({"output": [1], "usage": {"tokens": 3, "cost": 0.25}}))
    assert said == Result([1], Usage(3, 0.25))
    assert await call(says({"output": 1}, status=201), "once") == Result(1, Usage())


async def test_the_whole_bundle_is_sent() -> None:
    """F4: what an attempt is given, with its key in the header too."""
    heard: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        heard.append(asked)
        return says({"output": 1})(asked)

    feedback = [{"pointer": "/sky", "keyword": "type", "message": "no"}]
    await call(answer, asked=bundle({"town": "Bern"}, contract={"type": "object"}, instructions=["Be brief"],
                                    errors=feedback, directives={"voice": "plain"}))  # fmt: skip
    assert orjson.loads(heard[0].body) == {
        "capability_id": "weather.look_up", "version": "1.0.0", "run_id": "run_1", "node_id": "node", "attempt": 1,
        "idempotency_key": "run_1/node/0/0", "objective": "Say it", "inputs": {"town": "Bern"}, "constraints": {},
        "directives": {"voice": "plain"}, "instructions": ["Be brief"], "documents": [], "memory": {}, "revisions": {},
        "contract": {"type": "object"}, "errors": feedback,
    }  # fmt: skip
    assert heard[0].headers["idempotency-key"] == "run_1/node/0/0"
    assert heard[0].headers["content-type"] == "application/json"


async def test_failures_in_its_own_words() -> None:
    """An error is final unless it says otherwise; with 4xx it is final, with 5xx it is not, whatever it says."""
    error = {"code": "no_such_town", "message": "Never heard of it."}
    final = await failure(says({"error": error}))
    assert told(final) == ("no_such_town", False, None)
    assert final.message == "Never heard of it."
    later = {"error": {**error, "retryable": True, "after_ms": 250}}
    assert told(await failure(says(later))) == ("no_such_town", True, 250)
    assert told(await failure(says(later), "once")) == ("no_such_town", True, 250)
    assert told(await failure(says(later, status=404))) == ("no_such_town", False, None)
    assert told(await failure(says({"error": error}, status=500))) == ("no_such_town", True, None)


@pytest.mark.parametrize(
    ("status", "code", "retryable", "after_ms"),
    [(500, "remote_busy", True, 2_000), (503, "remote_busy", True, 2_000), (429, "remote_busy", True, 2_000),
     (400, "remote_refused", False, None), (404, "remote_refused", False, None), (302, "remote_refused", False, None)],
)  # fmt: skip
async def test_statuses(status: int, code: str, retryable: bool, after_ms: int | None) -> None:
    """F15: 5xx is tried again, after Retry-After; 4xx and redirects are not."""
    answer = raw(b"<html>", status, headers={"retry-after": "2", "location": "/elsewhere"})
    error = await failure(answer)
    assert told(error) == (code, retryable, after_ms)
    assert str(status) in error.message


BAD = [
    b"", b"{", b"[]", b"{}", b'{"output":1,"error":{"code":"a","message":"b"}}', b'{"error":null}', b'{"result":1}',
    b'{"output":1,"usage":{"tokens":-1}}', b'{"output":"\\u0000"}', b'{"error":{"code":"a b","message":"x"}}',
    b'{"output":1,"memory":[{"scope":"shared:a","key":"k"}]}', b'{"output":1,"memory":{"shared:a":{"k":1}}}',
    b'{"output":1,"memory":[{"scope":"shared:a","key":"k","value":1,"forget":true}]}',
    b'{"error":{"code":"a","message":"b"},"memory":[{"scope":"shared:a","key":"k","value":1}]}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD)
async def test_answers_that_are_none(body: bytes) -> None:
    """A capability that breaks the protocol fails for good; a once effect may have happened, and people are asked."""
    assert told(await failure(raw(body))) == ("remote_bad_answer", False, None)
    said = await call(raw(body), "once")
    assert isinstance(said, Fail)
    assert (said.code, said.ambiguous) == ("remote_bad_answer", True)


async def test_asking_people_is_not_there_yet() -> None:
    assert told(await failure(says({"ask": {"question": "How many?"}}), "once")) == (
        "remote_ask_unsupported", False, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "code"),
    [(raw(b"x", 500), "remote_busy"), (raw(b"x", 303), "remote_refused"), (raw(b"half", cut=True), "http_no_answer"),
     (raw(b"x" * 2_000_001), "response_refused")],
)  # fmt: skip
async def test_a_once_effect_that_may_have_happened_is_never_repeated_by_itself(answer: Say, code: str) -> None:
    """F6, H2: ambiguous, so a person is asked."""
    said = await call(answer, "once")
    assert isinstance(said, Fail)
    assert (said.code, said.ambiguous) == (code, True)


async def test_a_once_effect_that_never_left_may_be_tried_again() -> None:
    """F6: nobody was reached, or the other side turned it away."""
    assert told(await failure(raw(b"x", 429), "once")) == ("remote_busy", True, None)
    assert told(await failure(raw(b"x", 403), "once")) == ("remote_refused", False, None)
    async with serving(says({"output": 1})) as server:
        url = server.url
    with pytest.raises(CapabilityError) as failed:
        await remote(url, "once").run(bundle(), Call())
    assert told(failed.value) == ("http_unreachable", True, None)


async def test_a_call_takes_no_longer_than_registered() -> None:
    async with serving(lambda _: Answer(hang=True)) as server:
        with pytest.raises(CapabilityError) as failed:
            await remote(server.url, seconds=0.05).run(bundle(), Call())
        assert told(failed.value) == ("http_timeout", True, None)
        said = await remote(server.url, "once", 0.05).run(bundle(), Call())
        assert isinstance(said, Fail)
        assert said.ambiguous
