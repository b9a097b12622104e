"""What is refused and how: a problem document with a stable code, before anything happens (F1, F8, F12, P2, P3)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routes.origins import host_name
from tests.routes.serving import ENVELOPE, Serving, serving

STREAM, RUNS = "/api/v1/flex/run.stream", "/api/v1/runs"
FIXTURE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def served(sqlite_url: str) -> AsyncIterator[Serving]:
    async with serving(sqlite_url) as found:
        yield found


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["status"], document["code"]) == (status, status, code)
    assert document["correlation_id"] == response.headers["x-correlation-id"]
    assert document["title"]
    assert "Traceback" not in response.text
    return document


@pytest.mark.parametrize("path", [STREAM, RUNS, "/api/v1/plans"])
async def test_a_bad_envelope(served: Serving, path: str) -> None:
    """F1: 4xx before the stream opens, a pointer per error, under the envelope's own correlation id."""
    refused = await served.client.post(path, json={**ENVELOPE, "polices": {}, "correlationId": "cid-77"})
    document = problem(refused, 422, "envelope_invalid")
    assert document["errors"] == [{"pointer": "/polices", "code": "unknown_field", "message": "Unknown; policies?"}]
    assert document["correlation_id"] == "cid-77"
    assert served.runs.born == []


async def test_bodies(served: Serving) -> None:
    """P3: not JSON 400, another type 415, too large 413: declared or not."""
    json_type = {"Content-Type": "application/json"}

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b" " * 1_000

    post = served.client.post
    problem(await post(RUNS, content=b"{", headers=json_type), 400, "bad_json")
    problem(await post(RUNS, content=b'{"a":NaN}', headers=json_type), 400, "bad_json")
    problem(await post(RUNS, content=b'{"objective":"a\\u0000"}', headers=json_type), 400, "bad_json")
    problem(await post(RUNS, content=b"{}"), 415, "unsupported_media_type")
    for other in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonx",
    ):
        problem(await post(RUNS, content=b"{}", headers={"Content-Type": other}), 415, "unsupported_media_type")
    problem(await post(RUNS, content=b" " * 5_000, headers=json_type), 413, "body_too_large")
    problem(await post(RUNS, content=pieces(), headers=json_type), 413, "body_too_large")
    accepted = await post(RUNS, json=ENVELOPE, headers={"Content-Type": "Application/JSON; charset=UTF-8"})
    assert accepted.status_code == 202


async def test_an_endless_body_is_cut_off(served: Serving) -> None:
    """P3: the limit holds while the body is being read; the rest is never awaited."""
    url = served.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode())
    writer.write(
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b" " * 4_096 + b"\r\n10\r\n" + b" " * 16 + b"\r\n"
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert answer == b"HTTP/1.1 413 Content Too Large\r\n" or answer.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_bug_is_a_bare_500(served: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """F8: no detail of an unexpected exception leaves the service."""
    response = await served.client.post(
        RUNS, json={**ENVELOPE, "objective": "break"}, headers={"X-Correlation-Id": "mine"}
    )
    document = problem(response, 500, "internal")
    assert document["correlation_id"] == "mine"
    assert "secret" not in response.text
    assert "ZeroDivision" not in response.text


async def test_nothing_there(served: Serving) -> None:
    """P3: unknown paths and methods, malformed and unknown ids, another tenant's run."""
    foreign = await served.run(tenant="other")
    get = served.client.get
    problem(await get("/nothing"), 404, "not_found")
    problem(await get("/livez/"), 404, "not_found")
    refused = await served.client.delete(RUNS)
    problem(refused, 405, "method_not_allowed")
    assert {"GET", "HEAD", "POST"} <= {name.strip() for name in refused.headers["allow"].split(",")}
    for run_id in ("run_none", "-", "%00", "a%2Fb", "x" * 129, foreign.run_id):
        for rest in ("", "/events", "/plan", "/nodes", "/artifacts", "/nodes/n", "/artifacts/n"):
            response = await get(f"{RUNS}/{run_id}{rest}", headers={"Accept": "application/json"})
            assert response.status_code == 404, (run_id, rest)
            if "%2F" not in run_id:
                assert response.json()["code"] == "run_not_found"
    problem(await served.client.post(f"{RUNS}/run_none/cancel", json={}), 404, "run_not_found")
    problem(await get("/api/v1/prompts/-"), 404, "prompt_not_found")


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Correlation-Id"])
@pytest.mark.parametrize("value", ["", "a b", "x" * 201, "caf\u00e9"])
async def test_header_tokens(served: Serving, name: str, value: str) -> None:
    """F2: a key or correlation id that is not 1 to 200 visible ASCII characters is refused, never cut or dropped."""
    refused = await served.client.post(RUNS, json=ENVELOPE, headers={name.encode(): value.encode("latin-1")})
    document = problem(refused, 400, "bad_header")
    assert document["errors"][0]["pointer"] == f"/{name}"
    assert served.runs.born == []


@given(
    value=st.text(
        st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), min_size=1, max_size=30
    )
)
@FIXTURE
async def test_last_event_id_is_a_number_or_refused(value: str, served: Serving) -> None:
    """Wire §1: anything but a whole number from 0 is 400, never 500 and never taken for 0."""
    run = await served.run()
    await run.end()
    response = await served.client.get(
        f"{RUNS}/{run.run_id}/events", headers={b"Last-Event-ID": value.encode("latin-1")}
    )
    if value.isascii() and value.isdigit() and len(value) <= 18:
        assert response.status_code == (200 if int(value) < 2 else 204)
    else:
        problem(response, 400, "bad_header")


@given(
    name=st.sampled_from(["limit", "cursor", "status", "after", "version", "view"]),
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    path=st.sampled_from([RUNS, "/api/v1/prompts", "/api/v1/capabilities", "RUN/events", "RUN/plan", "RUN/nodes"]),
)
@FIXTURE
async def test_no_query_breaks_anything(name: str, value: str, path: str, served: Serving) -> None:
    """Wire §1: a query is understood or 400 with the parameter's name."""
    run = await served.run()
    url = path.replace("RUN", f"{RUNS}/{run.run_id}")
    response = await served.client.get(url, params={name: value}, headers={"Accept": "application/json"})
    if response.status_code == 400:
        assert problem(response, 400, "bad_query")["errors"][0]["pointer"] == f"/{name}"
    elif path.endswith("plan"):
        assert response.status_code == 404
    else:
        assert response.status_code == 200


async def test_query_bounds(served: Serving) -> None:
    """P3: limits are bounded, unknown and repeated parameters are refused with their name."""
    for query in (
        "limit=0",
        "limit=101",
        "limit=",
        "limit=1&limit=2",
        "limit=-1",
        "limit=%D9%A1",
        "staus=running",
        "status=done",
    ):
        document = problem(await served.client.get(f"{RUNS}?{query}"), 400, "bad_query")
        assert document["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"
    assert (await served.client.get(f"{RUNS}?limit=100&status=running")).status_code == 200


async def test_a_backlog_refuses_before_the_body(served: Serving) -> None:
    """F12: 503 with Retry-After, and the body is not even looked at."""
    served.backlog.full = True
    for path in (STREAM, RUNS, "/api/v1/plans", "/api/v1/flex/run.resume"):
        refused = await served.client.post(path, content=b"\xff" * 100_000)
        problem(refused, 503, "server_busy")
        assert refused.headers["retry-after"] == "2"
    assert (await served.client.get(RUNS)).status_code == 200


async def test_foreign_pages_change_nothing(served: Serving) -> None:
    """P2: a state change needs an absent, own or configured Origin; reading from elsewhere gets no CORS header."""
    own = f"http://127.0.0.1:{served.client.base_url.port}"
    post = served.client.post
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://app.example.evil.example",
        "junk",
        "http://[",
        "",
    ):
        problem(await post(RUNS, json=ENVELOPE, headers={"Origin": origin}), 403, "foreign_origin")
    assert served.runs.born == []
    assert (await post(RUNS, json=ENVELOPE, headers={"Origin": own})).status_code == 202
    allowed = await post(RUNS, json=ENVELOPE, headers={"Origin": "https://app.example"})
    assert allowed.status_code == 202
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    exposed = set(allowed.headers["access-control-expose-headers"].lower().split(", "))
    assert {"x-run-id", "location", "retry-after", "etag", "deprecation", "link", "preference-applied"} <= exposed
    described = (await served.client.get("/openapi.json")).json()["paths"]
    sent = {
        header.lower()
        for methods in described.values()
        for method in methods.values()
        if isinstance(method, dict)
        for answer in method.get("responses", {}).values()
        for header in answer.get("headers", ())
    }
    assert sent - {"cache-control", "content-type", "content-language"} <= exposed
    stranger = await served.client.get(RUNS, headers={"Origin": "https://evil.example"})
    assert stranger.status_code == 200
    assert "access-control-allow-origin" not in stranger.headers


async def test_refusals_are_readable_for_allowed_pages(served: Serving) -> None:
    """P2: an allowed page must be able to read why it was refused."""
    refused = await served.client.post(RUNS, json={}, headers={"Origin": "https://app.example"})
    problem(refused, 422, "envelope_invalid")
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert "Origin" in refused.headers["vary"]


async def test_preflight(served: Serving) -> None:
    """P2: preflights are answered for configured origins only."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    yes = await served.client.options(STREAM, headers={**asked, "Origin": "https://app.example"})
    assert yes.status_code == 204
    taken = set(yes.headers["access-control-allow-headers"].lower().split(", "))
    described = (await served.client.get("/openapi.json")).json()["paths"]
    params = [
        param for path in described.values() for method in path.values() for param in method.get("parameters", ())
    ]
    asked_for = {param["name"].lower() for param in params if param["in"] == "header"}
    assert {"if-match", "if-none-match", "idempotency-key", "last-event-id"} <= asked_for <= taken | {"accept"}
    assert "content-type" in taken
    no = await served.client.options(STREAM, headers={**asked, "Origin": "https://evil.example"})
    assert no.status_code == 403
    assert "access-control-allow-origin" not in no.headers


async def test_unknown_hosts(served: Serving) -> None:
    """P2: a name rebound to a loopback address reads nothing; probes are asked by address and answer."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost:1@evil.example", "", "[::1"):
        problem(await served.client.get(RUNS, headers={"Host": host}), 403, "foreign_origin")
        assert (await served.client.get("/livez", headers={"Host": host})).status_code == 200
    for host in ("localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:80", "flex.example", "a.localhost"):
        assert (await served.client.get(RUNS, headers={"Host": host})).status_code == 200


@given(st.text(max_size=40))
def test_host_names_never_break(text: str) -> None:
    """P2: whatever stands in Host, a name comes out, and never one with a mark of an address in it."""
    assert not set("/?#@") & set(host_name(text))


async def test_large_heads(served: Serving) -> None:
    """P3: headers and addresses are bounded."""
    problem(await served.client.get(RUNS, headers={"X-Big": "x" * 40_000}), 431, "headers_too_large")
    problem(await served.client.get(f"{RUNS}?cursor={'x' * 9_000}"), 431, "headers_too_large")


async def test_cancel(served: Serving) -> None:
    """Design §6: a body is optional; with one it is JSON and checked."""
    await served.client.post(RUNS, json=ENVELOPE)
    url = f"{RUNS}/{served.runs.born[0].run_id}/cancel"
    assert (await served.client.post(url)).status_code == 202
    assert (await served.client.post(url, json={"reason": "enough"})).status_code == 202
    assert served.runs.reasons == [None, "enough"]
    problem(await served.client.post(url, json={"why": "enough"}), 422, "unprocessable")
    problem(await served.client.post(url, content=b"reason=x"), 415, "unsupported_media_type")
    problem(
        await served.client.post(url, content=b"a=b", headers={"Content-Type": "text/plain"}),
        415,
        "unsupported_media_type",
    )
