"""Memory through HTTP, on both databases (R5, R6)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.spine.running import Service, serving

BRAND = "/api/v1/memory/shared/brand"


async def put(service: Service, at: str, value: Any, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await service.client.put(at, json={"value": value}, headers=named)


async def keys(service: Service, at: str) -> list[str]:
    answer = await service.client.get(at)
    assert answer.status_code == 200, answer.text
    return [item["key"] for item in answer.json()["items"]]


async def test_a_key_is_written_read_and_forgotten(service: Service) -> None:
    made = await put(service, f"{BRAND}/voice", {"tone": "plain", "camelCase": None})
    assert (made.status_code, made.headers["etag"], made.headers["location"]) == (201, '"1"', f"{BRAND}/voice")
    entry = made.json()
    assert entry["written_by"] == {"person": "user:local"}
    read = await service.client.get(f"{BRAND}/voice")
    assert (read.json(), read.headers["etag"]) == (entry, '"1"')
    assert (entry["scope"], entry["key"], entry["value"]) == (
        "shared:brand", "voice", {"tone": "plain", "camelCase": None},
    )  # fmt: skip
    again = await put(service, f"{BRAND}/voice", "loud")
    assert (again.status_code, again.json()["revision"]) == (200, 2)
    assert again.json()["created_at"] == entry["created_at"]
    gone = await service.client.delete(f"{BRAND}/voice")
    assert gone.status_code == 204
    for answer in (await service.client.get(f"{BRAND}/voice"), await service.client.delete(f"{BRAND}/voice")):
        assert (answer.status_code, answer.json()["code"]) == (404, "memory_not_found")


async def test_names_cannot_run_into_each_other(service: Service) -> None:
    """R5, trap: ``a_b`` + ``c`` was ``a`` + ``b_c``; here the parts stand apart, whatever they hold."""
    places = [("a_b", "c"), ("a", "b_c"), ("a:b", "c"), ("a", "b:c"), ("a-b", "c"), ("a.b", "c")]
    for agent, story in places:
        answer = await put(service, f"/api/v1/memory/agent/{agent}/{story}/k", f"{agent} in {story}")
        assert answer.status_code == 201
    shared = await put(service, "/api/v1/memory/shared/a_b/c", "of a namespace")
    assert shared.status_code == 201
    for agent, story in places:
        read = await service.client.get(f"/api/v1/memory/agent/{agent}/{story}/k")
        assert (read.json()["value"], read.json()["scope"]) == (f"{agent} in {story}", f"agent:{agent}/{story}")
    listed = (await service.client.get("/api/v1/memory")).json()["items"]
    assert sorted(item["scope"] for item in listed) == sorted(
        [*(f"agent:{agent}/{story}" for agent, story in places), "shared:a_b"]
    )
    assert {item["entries"] for item in listed} == {1}


async def test_a_compare_and_set_changes_only_what_was_read(service: Service) -> None:
    first = await put(service, f"{BRAND}/k", 1, If_None_Match="*")
    assert first.status_code == 201
    again = await put(service, f"{BRAND}/k", 2, If_None_Match="*")
    assert (again.status_code, again.json()["code"], again.json()["revision"]) == (409, "stale_revision", 1)
    assert (await put(service, f"{BRAND}/k", 2, If_Match='"1"')).json()["revision"] == 2
    stale = await put(service, f"{BRAND}/k", 3, If_Match='"1"')
    assert (stale.status_code, stale.json()["revision"]) == (409, 2)
    removed = await service.client.delete(f"{BRAND}/k", headers={"If-Match": '"1"'})
    assert (removed.status_code, removed.json()["code"]) == (409, "stale_revision")
    assert (await service.client.get(f"{BRAND}/k")).json()["value"] == 2
    missing = await put(service, f"{BRAND}/other", 1, If_Match='"1"')
    assert (missing.status_code, missing.json()["detail"]) == (409, "It is not there.")


async def test_no_revision_comes_twice(service: Service) -> None:
    """What was forgotten and written again is not what somebody read before."""
    await put(service, f"{BRAND}/k", "first")
    await service.client.delete(f"{BRAND}/k")
    second = await put(service, f"{BRAND}/k", "second")
    assert (await put(service, f"{BRAND}/k", "late", If_Match='"1"')).status_code == 409
    assert (await service.client.delete(BRAND)).json() == {"scope": "shared:brand", "forgotten": 1}
    third = await put(service, f"{BRAND}/k", "third")
    assert third.json()["revision"] > second.json()["revision"] > 1


async def test_of_many_writers_one_wins(service: Service) -> None:
    """R5: concurrent-safe; everybody who lost is told."""
    await put(service, f"{BRAND}/n", 0)
    answers = await asyncio.gather(*(put(service, f"{BRAND}/n", at, If_Match='"1"') for at in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 19]
    plain = await asyncio.gather(*(put(service, f"{BRAND}/p{at}", at) for at in range(20)))
    assert sorted(answer.json()["revision"] for answer in plain) == list(range(3, 23))


async def test_lists_are_pages_by_key(service: Service) -> None:
    for key in ("b1", "a2", "a1", "c", "a3"):
        await put(service, f"{BRAND}/{key}", key)
    first = (await service.client.get(f"{BRAND}?limit=2")).json()
    assert [item["key"] for item in first["items"]] == ["a1", "a2"]
    assert "value" not in first["items"][0]
    rest = (await service.client.get(f"{BRAND}?cursor={first['next_cursor']}")).json()
    assert ([item["key"] for item in rest["items"]], rest["next_cursor"]) == (["a3", "b1", "c"], None)
    assert await keys(service, f"{BRAND}?prefix=a") == ["a1", "a2", "a3"]
    assert await keys(service, f"{BRAND}?prefix=%25") == []
    for query in ("cursor=x", "limit=101", f"prefix={'a' * 129}"):
        odd = await service.client.get(f"{BRAND}?{query}")
        assert (odd.status_code, odd.json()["code"]) == (400, "bad_query")
    await put(service, "/api/v1/memory/agent/w/s/k", 1)
    page = (await service.client.get("/api/v1/memory?limit=1")).json()
    assert [item["scope"] for item in page["items"]] == ["agent:w/s"]
    rest = (await service.client.get(f"/api/v1/memory?cursor={page['next_cursor']}")).json()
    assert [(item["scope"], item["entries"]) for item in rest["items"]] == [("shared:brand", 5)]


async def test_a_scope_is_forgotten_and_only_that(service: Service) -> None:
    for at in (BRAND, "/api/v1/memory/shared/brand2", "/api/v1/memory/agent/brand/s"):
        await put(service, f"{at}/k", 1)
    assert (await service.client.delete(BRAND)).json() == {"scope": "shared:brand", "forgotten": 1}
    assert (await service.client.delete(BRAND)).json()["forgotten"] == 0
    listed = (await service.client.get("/api/v1/memory")).json()["items"]
    assert [item["scope"] for item in listed] == ["agent:brand/s", "shared:brand2"]


@pytest.mark.parametrize(
    ("at", "pointers"),
    [
        ("/api/v1/memory/shared/-x/k", ["/namespace"]),
        ("/api/v1/memory/shared/brand/a%20b", ["/key"]),
        ("/api/v1/memory/shared/brand/..%5Cx", ["/key"]),
        ("/api/v1/memory/agent/%C3%A4/_s/%00", ["/agent", "/story", "/key"]),
        (f"/api/v1/memory/shared/brand/{'k' * 129}", ["/key"]),
    ],
)
async def test_names_are_ids(service: Service, at: str, pointers: list[str]) -> None:
    """R6."""
    for answer in (await put(service, at, 1), await service.client.get(at), await service.client.delete(at)):
        assert (answer.status_code, answer.json()["code"]) == (422, "memory_invalid")
        assert [item["pointer"] for item in answer.json()["errors"]] == pointers


async def test_bodies_and_headers_are_checked(service: Service) -> None:
    for body, pointer in (({}, "/value"), ({"value": 1, "ttl": 5}, "/ttl"), ([], "")):
        answer = await service.client.put(f"{BRAND}/k", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    for headers in ({"If-Match": "1"}, {"If-None-Match": '"1"'}, {"If-Match": '"1"', "If-None-Match": "*"}):
        answer = await service.client.put(f"{BRAND}/k", json={"value": 1}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_header")
    assert await keys(service, BRAND) == []


async def test_what_is_kept_is_bounded(database_url: str) -> None:
    async with serving(database_url, memory_value_bytes=20, memory_keys=2) as service:
        large = await put(service, f"{BRAND}/k", "x" * 19)
        assert (large.status_code, large.json()["errors"][0]["code"]) == (422, "value_too_large")
        deep: Any = 1
        for _ in range(200):
            deep = [deep]
        assert (await put(service, f"{BRAND}/k", deep)).json()["errors"][0]["code"] == "too_deep"
        for key in ("a", "b", "a"):
            assert (await put(service, f"{BRAND}/{key}", "x" * 18)).status_code < 300
        full = await put(service, f"{BRAND}/c", 1)
        assert (full.status_code, full.json()["code"]) == (409, "memory_full")
        await service.client.delete(f"{BRAND}/a")
        assert (await put(service, f"{BRAND}/c", 1)).status_code == 201


async def test_what_people_change_is_recorded_without_the_value(service: Service) -> None:
    """H9: who changed what runs read."""
    await put(service, f"{BRAND}/k", "a secret")
    await service.client.delete(f"{BRAND}/k")
    await put(service, f"{BRAND}/k", "another")
    await service.client.delete(BRAND)
    answer = await service.client.get("/api/v1/audit")
    found = [(item["kind"], item["actor"]) for item in answer.json()["items"]]
    assert sorted(found) == sorted(
        (kind, "user:local") for kind in ("memory.written", "memory.forgotten", "memory.written", "memory.emptied")
    )
    assert "a secret" not in answer.text
