"""Whatever is sent, the answer is a refusal that says where, and nothing is left behind (F1, F2, P3)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from store import conversation_tables as _conversation_tables  # noqa: F401  # its tables are part of the metadata
from store import flow_tables as _flow_tables  # noqa: F401  # its tables are part of the metadata
from store import history_tables as _history_tables  # noqa: F401  # likewise
from store import memory_tables as _memory_tables  # noqa: F401  # its tables are part of the metadata
from store import template_tables as _template_tables  # noqa: F401  # likewise
from store.statement import Statement
from store.tables import metadata
from tests.spine.hostile import LIMIT, VALID, Hostile, hostile
from tests.spine.running import Service, serving

MANY = 500
WITHOUT_PLACE = {"bad_json", "body_too_large", "unsupported_media_type"}


async def rows(service: Service) -> dict[str, int]:
    """How many rows every table has."""
    counted = {}
    async with service.flex.worker.shell.database.reader() as reader:
        for table in metadata.sorted_tables:
            row = await reader.fetch_one(Statement(sa.select(sa.func.count()).select_from(table)))
            assert row is not None
            counted[table.name] = int(row[0])
    return counted


def wrong_with(each: Hostile, answer: httpx2.Response) -> str | None:
    """What is wrong with the answer to a hostile body; None when it is as it must be."""
    if not 400 <= answer.status_code < 500:
        return f"status {answer.status_code}"
    if not answer.headers["content-type"].startswith("application/problem+json"):
        return f"content type {answer.headers['content-type']}"
    problem: dict[str, Any] = answer.json()
    if problem["status"] != answer.status_code or not problem["code"] or not problem["correlation_id"]:
        return f"problem {problem}"
    if "Traceback" in answer.text or ".py" in answer.text:
        return f"the inside shows: {answer.text[:200]}"
    if problem["code"] in WITHOUT_PLACE:
        return None if each.at is None or b"\\u0000" in each.body else f"no place in {problem}"
    pointers = [item["pointer"] for item in problem["errors"]]
    if not pointers or not all(pointer == "" or pointer.startswith("/") for pointer in pointers):
        return f"no pointer in {problem}"
    if each.at is not None and not any(_near(pointer, each.at) for pointer in pointers):
        return f"the pointers lead elsewhere: {pointers}"
    return None


def _near(pointer: str, at: str) -> bool:
    """At the broken place, inside it, or at the node that it belongs to."""
    if pointer.startswith(at):
        return True
    inside_plan = at.startswith("/workflow/plan") and pointer.startswith("/workflow/plan")
    return inside_plan or (at.endswith("/mode") and pointer.startswith("/output_contract"))


@pytest.fixture(scope="module")
def bodies() -> list[Hostile]:
    return hostile(MANY)


async def test_nothing_hostile_gets_in(database_url: str, bodies: list[Hostile]) -> None:
    """F1: malformed, hostile and oversized envelopes are 4xx with a pointer; never 5xx, and no row is written."""
    assert len(bodies) >= MANY
    async with serving(database_url, body_bytes=LIMIT) as service:
        good = await service.client.post("/api/v1/plans", json=VALID)
        assert good.status_code == 200, good.text
        before = await rows(service)
        headers = {"Content-Type": "application/json"}
        wrong: list[str] = []
        for start in range(0, len(bodies), 25):
            chunk = bodies[start : start + 25]
            door = "/api/v1/flex/run.stream" if start % 50 else "/api/v1/runs"
            answers = await asyncio.gather(
                *[service.client.post(door, content=each.body, headers=headers) for each in chunk]
            )
            found = [(each, wrong_with(each, answer)) for each, answer in zip(chunk, answers, strict=True)]
            wrong += [f"{each.note}: {why}" for each, why in found if why is not None]
        assert not wrong, "\n".join(sorted(set(wrong)))
        assert await rows(service) == before


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", None]
)
async def test_only_json_is_taken(service: Service, media: str | None) -> None:
    """Wire §1: another media type, or none, is 415."""
    headers = {} if media is None else {"Content-Type": media}
    answer = await service.client.post("/api/v1/runs", content=json.dumps(VALID).encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_a_valid_envelope_is_valid(service: Service) -> None:
    """The mutations above start from an envelope that is taken and completes, else they would prove nothing."""
    body = VALID | {"policies": VALID["policies"] | {"hitl": []}, "output_contract": {"schema": True}}
    frames = await service.run(body)
    assert frames[-1].type == "complete", frames[-1]
    assert frames[-1].payload["output"] == 1
