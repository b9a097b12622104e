"""Audit records over HTTP: pages, filters, the export, the verdict, and who may see them (H9, P2, P3)."""

from typing import Any

import orjson
import pytest

from contracts.access import Principal
from contracts.errors import Forbidden
from hitl.sealing import Sealer
from service.audit import Audit
from service.exported import verify_lines
from store.audit_reads import WINDOW
from tests.audit.chains import added, chained, change, do, opened, record, rows_of
from tests.durability.waiting import until
from tests.routes.test_openapi import fits
from tests.spine.running import Service, serving
from tests.store.making import NOW

LINES = {"Accept": "application/x-ndjson"}


def auditor(tenant: str = "default", *roles: str) -> Principal:
    return Principal("user:ana", tenant, frozenset(roles or ("operator",)))


async def sealed(service: Service, many: int) -> list[dict[str, Any]]:
    """Wait until the service has sealed so many records; return them, newest first."""

    async def look() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await service.client.get("/api/v1/audit?limit=100")).json()["items"]
        return items if len(items) == many and all(item["seq"] is not None for item in items) else []

    found: list[dict[str, Any]] = await until(look, 15, f"{many} records are sealed")
    return found


async def changed(service: Service, many: int) -> None:
    """So many changes that leave a record each."""
    for days in range(1, many + 1):
        answer = await service.client.put("/api/v1/retention", json={"runs_days": days, "audit_days": None})
        assert answer.status_code == 200


async def test_what_is_done_is_on_record(database_url: str) -> None:
    """H9: a change leaves a record with who, when, before and after; the service seals it within a second or so."""
    async with serving(database_url) as service:
        await changed(service, 3)
        items = await sealed(service, 3)
        assert [item["seq"] for item in items] == [3, 2, 1]
        newest = items[0]
        assert (newest["kind"], newest["actor"], newest["tenant"]) == ("retention.changed", "user:local", "default")
        rest = {"audit_days": None, "conversations_days": None, "documents_days": None, "memory_days": None}
        assert newest["body"]["before"] == {"runs_days": 2, **rest}
        assert newest["body"]["after"] == {"runs_days": 3, **rest}
        assert newest["previous"] == items[1]["hash"]

        export = await service.client.get("/api/v1/audit", headers=LINES)
        assert export.headers["content-type"].startswith("application/x-ndjson")
        lines = export.content.splitlines()
        assert [orjson.loads(line) for line in lines] == items[::-1]
        assert verify_lines(lines).broken is None

        verdict = (await service.client.get("/api/v1/audit/verify")).json()
        assert verdict == {
            "ok": True, "checked": 3, "head": {"seq": 3, "hash": newest["hash"]}, "next_seq": None, "unsealed": 0,
            "broken": None,
        }  # fmt: skip
        assert "flex_audit_records_sealed_total 3.0" in (await service.client.get("/metrics")).text


async def test_a_break_is_told(database_url: str) -> None:
    """H9: the verdict names the first record that is not what was sealed; pages still show what is there."""
    async with serving(database_url) as service:
        await changed(service, 3)
        items = await sealed(service, 3)
        await do(service.flex.worker.shell.database, change(items[1]["record_id"], body_json="{broken"))
        verdict = (await service.client.get("/api/v1/audit/verify?from_seq=2")).json()
        assert (verdict["ok"], verdict["checked"]) == (False, 0)
        assert verdict["broken"] == {
            "seq": 2, "problem": "changed", "message": "Record 2 is not what was sealed.",
            "record_id": items[1]["record_id"],
        }  # fmt: skip
        shown = (await service.client.get("/api/v1/audit")).json()["items"]
        assert [item["body"] for item in shown][1] == "{broken"


async def test_answers_are_as_described(sqlite_url: str) -> None:
    """P3: records, sealed or not, verdicts and policies fit the schemas that the service publishes; so does the 410."""
    async with serving(sqlite_url) as service:
        description = (await service.client.get("/openapi.json")).json()
        await changed(service, 1)
        first = (await service.client.get("/api/v1/audit")).json()["items"]
        for item in [*first, *await sealed(service, 1)]:
            assert fits(description, "AuditRecord", item) == []
        for path, name in (("/api/v1/audit/verify", "AuditVerdict"), ("/api/v1/retention", "Retention")):
            assert fits(description, name, (await service.client.get(path)).json()) == []
        for path in ("/api/v1/runs/{run_id}", "/api/v1/prompts/{prompt_id}"):
            assert "run_pruned" in description["paths"][path]["get"]["responses"]["410"]["description"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=x", "sort=at", "kind=a&kind=b", "run_id=a%00"])
async def test_queries_that_cannot_be_used(sqlite_url: str, query: str) -> None:
    async with serving(sqlite_url) as service:
        answer = await service.client.get(f"/api/v1/audit?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")
        for place in ("0", "-1", "x"):
            answer = await service.client.get(f"/api/v1/audit/verify?from_seq={place}")
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


async def test_beyond_the_end_is_refused(sqlite_url: str) -> None:
    async with serving(sqlite_url) as service:
        await changed(service, 1)
        await sealed(service, 1)
        assert (await service.client.get("/api/v1/audit/verify?from_seq=2")).json()["ok"]
        answer = await service.client.get("/api/v1/audit/verify?from_seq=3")
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/from_seq")


async def test_filters_and_pages(database_url: str) -> None:
    """H9, P3: by run, prompt, kind and actor; pages neither repeat nor lose a record, also for rare kinds."""
    async with opened(database_url) as database:
        many = WINDOW * 2 + 100
        rare = {5, WINDOW + 1, many - 1}
        rows = [
            record(
                at=NOW + number // 3, run_id=f"run_{number % 10}",
                prompt_id=None if number % 2 else f"prm_{number % 50}",
                kind="rare" if number in rare else "usual", actor="user:ben" if number in rare else "user:ana",
            )
            for number in range(many)
        ]  # fmt: skip
        await added(database, *rows)
        audit = Audit(database)

        async def all_of(**chosen: str) -> list[str]:
            found: list[str] = []
            cursor, turns = None, 0
            while turns == 0 or cursor is not None:
                page = await audit.page(auditor(), chosen, limit=100, cursor=cursor)
                found += [item["record_id"] for item in page["items"]]
                cursor, turns = page["next_cursor"], turns + 1
            return found

        order = sorted(rows, key=lambda row: (row.at, row.record_id), reverse=True)
        assert await all_of() == [row.record_id for row in order]
        for name, value in (("run_id", "run_3"), ("prompt_id", "prm_4"), ("kind", "rare"), ("actor", "user:ben")):
            wanted = [row.record_id for row in order if getattr(row, name) == value]
            assert wanted
            assert await all_of(**{name: value}) == wanted
        assert await all_of(run_id="run_5", kind="rare") == [row.record_id for row in order if row is rows[5]]

        await Sealer(database).tick()
        for chosen in ({}, {"run_id": "run_3"}, {"kind": "rare"}, {"prompt_id": "prm_4", "actor": "user:ana"}):
            lines = [orjson.loads(line) for line in await exported(audit, auditor(), chosen)]
            kept = [row for row in rows if all(getattr(row, name) == value for name, value in chosen.items())]
            assert sorted(line["record_id"] for line in lines) == sorted(row.record_id for row in kept)
            assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)


async def exported(audit: Audit, principal: Principal, chosen: dict[str, str]) -> list[bytes]:
    pieces = [piece async for piece in await audit.export(principal, chosen)]
    return b"".join(pieces).splitlines()


async def test_tenants_see_their_own(database_url: str) -> None:
    """P2: pages, exports and verdicts of one tenant know nothing of another, whatever is done to the other's."""
    async with opened(database_url) as database:
        await chained(database, "default", 3)
        other = await chained(database, "other", 4)
        await do(database, change(other[1].record_id, actor="user:ben"))
        audit = Audit(database)
        page = await audit.page(auditor(), {}, limit=100, cursor=None)
        assert {item["tenant"] for item in page["items"]} == {"default"}
        assert len(await exported(audit, auditor(), {})) == 3
        assert (await audit.verify(auditor(), None))["ok"]
        assert not (await audit.verify(auditor("other"), None))["ok"]
        assert (await audit.verify(auditor("nobody"), None)) == {
            "ok": True, "checked": 0, "head": None, "next_seq": None, "unsealed": 0, "broken": None,
        }  # fmt: skip
        assert len(await rows_of(database, "other")) == 4


@pytest.mark.parametrize("role", ["submitter", "builder", ""])
async def test_only_admins_and_operators(sqlite_url: str, role: str) -> None:
    """P2, H9: who did what is not everybody's business."""
    async with opened(sqlite_url) as database:
        audit, caller = Audit(database), Principal("user:ben", "default", frozenset({role} - {""}))
        with pytest.raises(Forbidden):
            await audit.page(caller, {}, limit=1, cursor=None)
        with pytest.raises(Forbidden):
            await audit.export(caller, {})
        with pytest.raises(Forbidden):
            await audit.verify(caller, None)
        for allowed in ("admin", "operator"):
            assert (await audit.verify(auditor("default", allowed), None))["ok"]
