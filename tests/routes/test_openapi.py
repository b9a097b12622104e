"""The description is the table of routes, and it is true (P3)."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openapi_pydantic import parse_obj

from contracts.events import EVENTS
from contracts.schema import compile_schema
from routes.table import ROUTES
from tests.routes.serving import ENVELOPE, Serving, serving


@pytest.fixture
async def served(sqlite_url: str) -> AsyncIterator[Serving]:
    async with serving(sqlite_url) as found:
        yield found


@pytest.fixture
async def description(served: Serving) -> dict[str, Any]:
    found: dict[str, Any] = (await served.client.get("/openapi.json")).json()
    return found


def fits(description: dict[str, Any], name: str, value: Any) -> list[Any]:
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    return list(compile_schema(schema).explain(value))


async def test_it_is_a_valid_description_of_every_route(description: dict[str, Any]) -> None:
    """P3: OpenAPI 3.1; each route once, each reference resolves, each path parameter described."""
    parse_obj(description)
    assert description["openapi"].startswith("3.1.")
    described = {(method.upper(), path) for path, item in description["paths"].items() for method in item}
    assert described == {(spec.method, spec.path) for spec in ROUTES}
    assert len(ROUTES) == len(described) == len({spec.name for spec in ROUTES})
    names = set(re.findall(r"'#/components/schemas/([^']+)'", str(description)))
    assert names <= description["components"]["schemas"].keys()
    for path, item in description["paths"].items():
        for operation in item.values():
            given = {param["name"] for param in operation.get("parameters", []) if param["in"] == "path"}
            assert given == set(re.findall(r"{([^}]+)}", path))
            assert all(answer["description"] for answer in operation["responses"].values())


async def test_answers_are_as_described(served: Serving, description: dict[str, Any]) -> None:
    """P3: what the service answers fits the schemas it publishes."""
    run = await served.run()
    await run.log("hello")
    await run.end({"a": 1})
    for path, name in (
        (f"/api/v1/runs/{run.run_id}", "Run"),
        ("/api/v1/me", "Me"),
        ("/api/v1/config", "Config"),
        ("/livez", "Alive"),
        ("/readyz", "Ready"),
        ("/nowhere", "Problem"),
    ):
        assert fits(description, name, (await served.client.get(path)).json()) == []
    for path, name in (
        ("/api/v1/runs", "RunItem"),
        ("/api/v1/capabilities", "Capability"),
        ("/api/v1/facets", "Facet"),
    ):
        items = (await served.client.get(path)).json()["items"]
        assert items
        assert [fits(description, name, item) for item in items] == [[] for _ in items]
    page = await served.client.get(f"/api/v1/runs/{run.run_id}/events", headers={"Accept": "application/json"})
    assert fits(description, "EventPage", page.json()) == []
    accepted = await served.client.post("/api/v1/runs", json=ENVELOPE)
    assert fits(description, "AcceptedRun", accepted.json()) == []
    dry = await served.client.post("/api/v1/plans", json=ENVELOPE)
    assert fits(description, "DryRun", dry.json()) == []
    assert dry.json()["findings"][0]["code"] == "missing_facet"


async def test_inputs_are_as_described(description: dict[str, Any]) -> None:
    """P3: the published envelope schema takes what is accepted and refuses an unknown field."""
    assert fits(description, "TaskEnvelope", ENVELOPE) == []
    contract = {"mode": "json_schema", "schema": {"type": "object"}}
    assert fits(description, "TaskEnvelope", {"objective": "x", "output_contract": contract}) == []
    assert fits(description, "TaskEnvelope", {**ENVELOPE, "polices": {}}) != []
    assert fits(description, "TaskEnvelope", {"objective": "x"}) != []


async def test_every_frame_type_is_described(description: dict[str, Any]) -> None:
    """F7: a frame of each type is one of the alternatives of `Frame`."""
    assert len(description["components"]["schemas"]["Frame"]["anyOf"]) == len(EVENTS)


async def test_the_page_needs_nothing_from_elsewhere(served: Serving) -> None:
    """P1: /docs works without a network: no address of another site, and a policy that forbids one."""
    page = await served.client.get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    wanted = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert {"/docs/docs.css", "/docs/docs.js", "/openapi.json"} == set(wanted)
    for path in wanted:
        part = await served.client.get(path)
        assert part.status_code == 200
        assert "http://" not in part.text
        assert "https://" not in part.text


async def test_metrics_count_by_pattern(served: Serving) -> None:
    """P5: requests are counted by route pattern; an id never becomes a label."""
    run = await served.run()
    await served.client.get(f"/api/v1/runs/{run.run_id}")
    await served.client.get("/nowhere")
    text = (await served.client.get("/metrics")).text
    assert 'flex_http_requests_total{method="GET",route="/api/v1/runs/{run_id}",status="200"} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert 'flex_frames_total{type="start"} 1.0' in text
    assert run.run_id not in text


async def test_ready_only_while_it_can_serve(served: Serving) -> None:
    """P5: not ready while draining or while the database is away; alive all the same."""
    assert (await served.client.get("/readyz")).json() == {"status": "ok", "problems": []}
    served.health.draining = True
    unready = await served.client.get("/readyz")
    assert (unready.status_code, unready.json()["problems"]) == (503, ["draining"])
    assert (await served.client.get("/livez")).status_code == 200


async def test_pages_of_the_catalogue(served: Serving) -> None:
    """P3: keyset pages by id; inactive capabilities say what would activate them."""
    first = (await served.client.get("/api/v1/capabilities?limit=1")).json()
    assert first["items"][0]["inactive_reason"] == "set FLEX_MODEL_URL"
    second = (
        await served.client.get("/api/v1/capabilities", params={"limit": 1, "cursor": first["next_cursor"]})
    ).json()
    assert [page["items"][0]["capability_id"] for page in (first, second)] == ["one", "two"]
    assert second["next_cursor"] is None
