"""Registering over HTTP on both databases: chosen, called, silent, back again, gone, kept over a restart (F15)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from contracts.access import Principal
from contracts.errors import TooManyCapabilities
from service.registrations import Registrations
from tests.capabilities.web import Server
from tests.capabilities.web import serving as web
from tests.registrations.running import (
    CAPABILITIES,
    ENVELOPE,
    FACETS,
    NAME,
    PushedClock,
    acting_as,
    declaration,
    listed,
    register,
    serving,
    sunny,
)
from tests.spine.running import PATIENCE, Service, envelope, plan
from tests.spine.sse import payload, shapes


@pytest.fixture
def clock() -> PushedClock:
    return PushedClock()


@pytest.fixture
async def service(database_url: str, clock: PushedClock) -> AsyncIterator[Service]:
    async with serving(database_url, clock) as running:
        yield running


@pytest.fixture
async def weather() -> AsyncIterator[Server]:
    async with web(sunny) as server:
        yield server


def pinned() -> dict[str, Any]:
    """A plan in which a person is asked first, and then the registered capability is called."""
    wait = {"node_id": "wait", "kind": "ask", "prompt": {"question": "Now?", "answer_schema": {"type": "string"}}}
    town = {"node_id": "wait", "pointer": ""}
    look = {"node_id": "look", "kind": "call", "capability_id": NAME, "inputs": {"town": town}}
    return envelope(plan(wait, look))


async def test_what_is_registered_is_planned_with_and_called(service: Service, weather: Server) -> None:
    """F15: registered → the planner chooses it → its address is called → the caller's schema is satisfied."""
    before = await service.client.post("/api/v1/plans", json=ENVELOPE)
    assert before.json()["plan"] is None
    shown = await register(service, declaration(f"{weather.url}/call"))
    assert (shown["capability_id"], shown["version"], shown["active"]) == (NAME, "1.0.0", True)
    assert await listed(service) == [shown]
    frames = await service.run(ENVELOPE)
    node = payload(frames, "plan_generated")["plan"]["nodes"][0]
    assert (node["capability_id"], node["capability_version"], node["effects"]) == (NAME, "1.0.0", "idempotent")
    payload(frames, "complete", output={"outlook": {"sky": "blue over Bern"}}, usage={"tokens": 7, "cost": 0.5})
    (asked,) = weather.asked
    body = orjson.loads(asked.body)
    assert (asked.method, asked.target, body["inputs"]) == ("POST", "/call", {"town": "Bern"})
    assert (body["run_id"], body["node_id"], body["attempt"]) == (frames[0].whole["run_id"], node["node_id"], 1)
    assert (body["objective"], body["capability_id"], body["version"]) == ("Tell me the weather", NAME, "1.0.0")
    assert asked.headers["idempotency-key"] == body["idempotency_key"]
    assert body["contract"]


async def test_the_same_again_is_a_heartbeat(service: Service, weather: Server, clock: PushedClock) -> None:
    """F15: 200 for the same words; the catalogue is one object until something changes, silence included."""
    directory = service.flex.worker.shell.directory
    body = declaration(weather.url)
    shown = await register(service, body)
    catalogue = directory.catalogue()
    assert await register(service, dict(reversed(body.items())), 200) == shown
    assert (await service.client.post(f"{CAPABILITIES}/{NAME}/heartbeat")).status_code == 204
    clock.push(59)
    assert directory.catalogue() is catalogue
    assert (await service.client.post(f"{CAPABILITIES}/{NAME}/heartbeat", params={"version": "1.0.0"})).is_success
    clock.push(59)
    assert directory.catalogue() is catalogue
    clock.push(2)
    silent = directory.catalogue()
    assert silent is not catalogue
    assert directory.catalogue() is silent
    await register(service, body, 200)
    assert directory.catalogue().active == catalogue.active


async def test_a_silent_one_is_inactive_and_a_run_that_needs_it_asks(
    service: Service, weather: Server, clock: PushedClock
) -> None:
    """F15: silent → listed inactive with a remedy → not planned with → a pinned run asks → heartbeat → it goes on."""
    await register(service, declaration(weather.url))
    run_id = await service.start(pinned())
    (prompt,) = await service.asked(run_id)
    clock.push(61)
    (shown,) = await listed(service)
    assert shown["active"] is False
    assert f"{CAPABILITIES}/{NAME}/heartbeat" in shown["inactive_reason"]
    answer = (await service.client.post("/api/v1/plans", json=ENVELOPE)).json()
    assert answer["plan"] is None
    assert "No heartbeat" in str(answer["findings"])
    async with asyncio.timeout(PATIENCE), service.watch(run_id) as reader:
        await service.decided(prompt, "answer", answer="Chur")
        while (asked := (await reader.until("hitl_request")).payload["prompt"])["node_id"] != "look":
            pass
        assert (asked["kind"], asked["answer_schema"]) == ("choice", {"enum": ["retry", "fail"]})
        assert weather.asked == []
        assert (await service.client.post(f"{CAPABILITIES}/{NAME}/heartbeat")).status_code == 204
        assert (await listed(service))[0]["active"] is True
        await service.decided(asked, "choose", answer="retry")
        frames = await reader.rest()
    payload(frames, "complete", output={"sky": "blue over Chur"})
    assert "node_error:look" not in shapes(frames)


async def test_a_newer_version_is_chosen_only_while_it_speaks(
    service: Service, weather: Server, clock: PushedClock
) -> None:
    """F15: versions are active each by itself; a plan names the one it was made with."""
    await register(service, declaration(weather.url, heartbeat_seconds=600))
    await register(service, declaration(weather.url, version="1.10.0", heartbeat_seconds=5))

    async def chosen() -> str:
        found = (await service.client.post("/api/v1/plans", json=ENVELOPE)).json()
        return str(found["plan"]["nodes"][0]["capability_version"])

    assert await chosen() == "1.10.0"
    clock.push(6)
    assert await chosen() == "1.0.0"
    assert [(item["version"], item["active"]) for item in await listed(service)] == [("1.0.0", True), ("1.10.0", False)]
    found = service.flex.worker.shell.directory.find(NAME)
    assert found is not None
    assert found.spec.version == "1.0.0"
    named = plan({"node_id": "a", "kind": "call", "capability_id": NAME, "capability_version": "1.10.0",
                  "inputs": {"town": {"value": "Bern"}}})  # fmt: skip
    answer = (await service.client.post("/api/v1/plans", json=envelope(named))).json()
    assert [(item["code"], item["pointer"]) for item in answer["findings"]] == [
        ("capability_inactive", "/workflow/plan/nodes/0/capability_version")
    ]


async def test_a_restart_keeps_registrations_and_deletions(database_url: str, weather: Server) -> None:
    """F15: they are stored; another process on the same database serves them, and forgets the deleted ones."""
    async with serving(database_url) as first:
        await register(first, declaration(weather.url))
        await register(first, declaration(weather.url, capability_id="weather.other"))
        assert (await first.client.delete(f"{CAPABILITIES}/weather.other")).status_code == 204
        assert await listed(first, "weather.other") == []
        again = await first.client.delete(f"{CAPABILITIES}/weather.other")
        assert (again.status_code, again.json()["code"]) == (404, "capability_not_found")
    async with serving(database_url) as second:
        assert [item["active"] for item in await listed(second)] == [True]
        assert await listed(second, "weather.other") == []
        frames = await second.run(ENVELOPE)
        payload(frames, "complete", output={"outlook": {"sky": "blue over Bern"}})


async def test_another_process_takes_it_over_within_a_look(database_url: str, weather: Server) -> None:
    """F15: registered here, planned there; deleted here, gone there."""
    async with serving(database_url) as here, serving(database_url) as there:
        await register(here, declaration(weather.url))
        async with asyncio.timeout(PATIENCE):
            while not await listed(there):
                pass
        frames = await there.run(ENVELOPE)
        payload(frames, "complete", output={"outlook": {"sky": "blue over Bern"}})
        assert (await here.client.delete(f"{CAPABILITIES}/{NAME}?version=1.0.0")).status_code == 204
        async with asyncio.timeout(PATIENCE):
            while await listed(there):
                pass


async def test_a_heartbeat_at_one_process_is_heard_by_the_other(
    database_url: str, weather: Server, clock: PushedClock
) -> None:
    """F15: only the times are read again, and the catalogue over there stays the same object."""
    async with serving(database_url, clock) as here, serving(database_url, clock) as there:
        await register(here, declaration(weather.url))
        await there.flex.registrations.look()
        catalogue = there.flex.worker.shell.directory.catalogue()
        clock.push(50)
        await here.client.post(f"{CAPABILITIES}/{NAME}/heartbeat")
        await there.flex.registrations.look()
        clock.push(50)
        assert there.flex.worker.shell.directory.catalogue() is catalogue
        assert NAME in catalogue.active


# --- conflicts ---


async def conflict(service: Service, body: Any) -> tuple[str, list[str]]:
    answer = await register(service, body, 409)
    return answer["code"], [item["pointer"] for item in answer["errors"]]


async def test_contradictions_are_refused(service: Service, weather: Server) -> None:
    """F15: an id and version that is taken, a facet with another schema: of the service or of another registration."""
    body = declaration(weather.url)
    await register(service, body)
    assert await conflict(service, {**body, "cost": 1}) == ("capability_conflict", ["/version"])
    assert await conflict(service, {**body, "capability_id": "copy.template"}) == ("capability_conflict", ["/version"])
    other = {**body, "capability_id": "weather.other", "version": "2"}
    changed = [FACETS[0], {**FACETS[1], "schema": {"type": "string"}}]
    assert await conflict(service, {**other, "facets": changed}) == ("facet_conflict", ["/facets/1/schema"])
    listy = [{**FACETS[0], "list_of": "forecast"}, FACETS[1]]
    assert await conflict(service, {**other, "facets": listy}) == ("facet_conflict", ["/facets/0/list_of"])
    built_in = [*FACETS, {"name": "tone", "schema": {"type": "integer"}}]
    assert await conflict(service, {**other, "facets": built_in}) == ("facet_conflict", ["/facets/2/schema"])
    assert len(await listed(service, "weather.other")) == 0
    await register(service, {**other, "facets": [FACETS[0], {**FACETS[1], "aliases": ["sky_report"]}]})
    facets = (await service.client.get("/api/v1/facets", params={"limit": 100})).json()["items"]
    assert next(item for item in facets if item["name"] == "forecast")["aliases"] == ["outlook", "sky_report"]


async def test_two_that_contradict_each_other_at_the_same_time(database_url: str, weather: Server) -> None:
    """F15: whoever comes second is refused, in another process too."""
    async with serving(database_url) as here, serving(database_url) as there:
        mine = declaration(weather.url)
        theirs = declaration(
            weather.url, capability_id="weather.other", facets=[FACETS[0], {**FACETS[1], "schema": True}]
        )
        answers = await asyncio.gather(
            here.client.post(CAPABILITIES, json=mine), there.client.post(CAPABILITIES, json=theirs)
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_no_more_than_so_many(service: Service, weather: Server) -> None:
    """Nothing grows for ever; what is there already may be registered again."""
    shell = service.flex.worker.shell
    few = Registrations(shell.database, shell.directory, most=1)  # type: ignore[arg-type]  # the wiring's directory
    admin = Principal("user:ana", roles=frozenset({"admin"}))
    assert (await few.register(admin, declaration(weather.url)))[1]
    assert not (await few.register(admin, declaration(weather.url)))[1]
    with pytest.raises(TooManyCapabilities):
        await few.register(admin, declaration(weather.url, version="2"))


# --- refusals ---


INVALID = "registration_invalid"
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"address": {"type": "mcp", "url": "http://127.0.0.1/"}}, "unsupported", "/address/type", "unsupported"),
    ({"address": {"type": "ftp", "url": "http://127.0.0.1/"}}, INVALID, "/address/type", "not_allowed"),
    ({"address": {"type": "http", "url": "ftp://example.com/"}}, INVALID, "/address/url", "bad_url"),
    ({"address": {"type": "http", "url": "http://a:b@x.example/"}}, INVALID, "/address/url", "bad_url"),
    ({"address": {"type": "http", "url": "http://x.example:99999/"}}, INVALID, "/address/url", "bad_url"),
    ({"address": {"type": "http", "url": "http://10.0.0.1/x"}}, INVALID, "/address/url", "egress_refused"),
    ({"capability_id": "no spaces"}, INVALID, "/capability_id", "bad_id"),
    ({"version": ""}, INVALID, "/version", "too_short"),
    ({"heartbeat_seconds": 4}, INVALID, "/heartbeat_seconds", "greater_than_equal"),
    ({"heartbeat_seconds": 3_601}, INVALID, "/heartbeat_seconds", "less_than_equal"),
    ({"timeout_seconds": 0}, INVALID, "/timeout_seconds", "greater_than"),
    ({"quality": 2}, INVALID, "/quality", "less_than_equal"),
    ({"effects": "some"}, INVALID, "/effects", "not_allowed"),
    ({"consumed": {}}, INVALID, "/consumed", "unknown_field"),
    ({"consumes": {"town": "town"}}, INVALID, "/consumes/town", "model_type"),
    ({"consumes": {"a b": {"facet": "town"}}}, INVALID, "/consumes/a b", "bad_name"),
    ({"consumes": {"count": {"facet": "town"}}, "batch": True}, INVALID, "/consumes/count", "not_allowed"),
    ({"consumes": {"x": {"facet": "rain"}}}, INVALID, "/consumes/x/facet", "unknown_facet"),
    ({"produces": ["rain"]}, INVALID, "/produces/0", "unknown_facet"),
    ({"produces": ["town", "town"]}, INVALID, "/produces/1", "given_twice"),
    ({"facets": [*FACETS, FACETS[0]]}, INVALID, "/facets/2/name", "given_twice"),
    ({"facets": [*FACETS, {"name": "x"}]}, INVALID, "/facets/2/schema", "required"),
    ({"facets": [*FACETS, {"name": "x", "schema": True, "list_of": "rain"}]},
     INVALID, "/facets/2/list_of", "unknown_facet"),
    ({"facets": [*FACETS, {"name": "x", "schema": {"type": "text"}}]},
     "schema_refused", "/facets/2/schema/type", "schema_invalid"),
    ({"facets": [*FACETS, {"name": "x", "schema": {"$ref": "https://x.example/s"}}]},
     "schema_refused", "/facets/2/schema/$ref", "remote_ref"),
]  # fmt: skip


async def test_a_bad_declaration_is_refused_with_its_pointer(service: Service) -> None:
    """F15, P3: 422 with a code and a pointer per place, and nothing is registered."""
    for changes, code, pointer, item in BAD:
        answer = await register(service, declaration("http://127.0.0.1:9/", **changes), 422)
        assert answer["code"] == code, changes
        assert (pointer, item) in [(each["pointer"], each["code"]) for each in answer["errors"]], answer
    assert (await register(service, ["no object"], 422))["code"] == "registration_invalid"
    assert await listed(service) == []
    camel = {"capabilityId": NAME, "heartbeatSeconds": 30, "address": {"type": "http", "url": "http://127.0.0.1:9/"}}
    assert (await register(service, camel))["capability_id"] == NAME


async def test_only_administrators_of_this_tenant_may(service: Service, weather: Server) -> None:
    """P2, F15: others get 403, whatever they ask; what is not registered is 404."""
    await register(service, declaration(weather.url))
    builder = Principal("user:bob", roles=frozenset({"submitter", "operator", "builder"}))
    stranger = Principal("user:eve", tenant="elsewhere", roles=frozenset({"admin"}))
    for principal in (builder, stranger):
        async with acting_as(service, principal) as client:
            for method, path in (("POST", ""), ("POST", f"/{NAME}/heartbeat"), ("DELETE", f"/{NAME}")):
                body = declaration(weather.url) if path == "" else None
                answer = await client.request(method, CAPABILITIES + path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert len(await listed(service)) == 1
    for method, path in (
        ("POST", "copy.template/heartbeat"), ("DELETE", "copy.template"), ("DELETE", "%20"),
        ("DELETE", f"{NAME}?version=9"), ("DELETE", f"{NAME}?version="),
    ):  # fmt: skip
        answer = await service.client.request(method, f"{CAPABILITIES}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "capability_not_found"), path
    assert len(await listed(service)) == 1


async def test_a_place_that_is_no_longer_allowed_is_not_called(database_url: str, weather: Server) -> None:
    """W4 egress: the guard stands before every call, not only at registration."""
    async with serving(database_url) as open_service:
        await register(open_service, declaration(weather.url))
    async with serving(database_url, egress_allow=()) as closed:
        frames = await closed.run(ENVELOPE)
        assert payload(frames, "node_error")["code"] == "egress_refused"
        payload(frames, "failed", code="node_failed")
    assert weather.asked == []
