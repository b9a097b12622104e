"""How long a tenant keeps things: read, changed, and on record (P6)."""

from typing import Any

import pytest

from app.keeping import keep_of_settings
from app.settings import Settings
from contracts.access import LOCAL, Principal
from contracts.errors import Forbidden
from service.pruning import Asked
from service.retention import Keep, Retention
from store import tables as t
from tests.retention.growing import Sown, grounds
from tests.routes.serving import Counting
from tests.spine.running import serving
from tests.store.making import TENANT

URL = "/api/v1/retention"


async def test_the_service_has_a_policy_until_the_tenant_has_one(database_url: str) -> None:
    """P6: defaults come from the settings; a tenant's own policy replaces them whole, null is for ever."""
    async with serving(database_url, retention_days=90, audit_retention_days=0) as service:
        first = await service.client.get(URL)
        kept = {"conversations_days": None, "documents_days": None, "memory_days": None}
        assert first.json() == {"runs_days": 90, "audit_days": None, **kept, "updated_by": None, "updated_at": None}
        put = await service.client.put(URL, json={"runs_days": None, "auditDays": 30})
        assert put.status_code == 200
        shown = (await service.client.get(URL)).json()
        assert shown == put.json()
        assert (shown["runs_days"], shown["audit_days"], shown["updated_by"]) == (None, 30, "user:local")
        assert shown["updated_at"].endswith("Z")
        more = {"runs_days": 5, "audit_days": 6, "conversations_days": 7, "documentsDays": 8}
        await service.client.put(URL, json=more)
        partly = await service.client.put(URL, json={"runs_days": 5, "audit_days": 6, "documents_days": None})
        shown = partly.json()
        assert (shown["conversations_days"], shown["documents_days"], shown["memory_days"]) == (7, None, None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"runs_days": 0, "audit_days": 1}, "/runs_days"),
        ({"runs_days": 36_501, "audit_days": 1}, "/runs_days"),
        ({"runs_days": 1.5, "audit_days": 1}, "/runs_days"),
        ({"runs_days": "30", "audit_days": 1}, "/runs_days"),
        ({"runs_days": True, "audit_days": 1}, "/runs_days"),
        ({"runs_days": 30}, "/audit_days"),
        ({"runs_days": 30, "audit_days": 30, "memory_days": 0}, "/memory_days"),
        ({"runs_days": 30, "audit_days": 30, "days": 1}, "/days"),
    ],
)
async def test_what_is_no_policy(sqlite_url: str, body: Any, pointer: str) -> None:
    """P3: refused with a pointer, and nothing is changed: a missing member is not taken for «for ever»."""
    async with serving(sqlite_url) as service:
        answer = await service.client.put(URL, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
        assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]
        assert (await service.client.get(URL)).json()["updated_by"] is None


async def test_a_policy_is_its_tenants(database_url: str) -> None:
    """P2, P6: what one tenant says counts for it alone, from the next pruning on."""
    async with grounds(database_url) as ground:
        retention = Retention(ground.database, ground.clock, Counting(), Keep(365, None))
        await ground.sow(Sown(days=40, run_id="mine"), Sown(days=40, run_id="other", tenant="other"))
        await retention.write(LOCAL, {"runs_days": 30, "audit_days": None})
        await ground.prune(Asked())
        assert await ground.ids(t.runs) == {"other"}
        other = Principal("user:ben", "other", frozenset({"admin"}))
        assert (await retention.read(other))["runs_days"] == 365
        assert (await retention.read(LOCAL))["runs_days"] == 30


@pytest.mark.parametrize("role", ["submitter", "operator", "builder"])
async def test_only_admins(sqlite_url: str, role: str) -> None:
    """P2: what is deleted when is the administrators' business."""
    async with grounds(sqlite_url) as ground:
        retention = Retention(ground.database, ground.clock, Counting(), Keep(365, None))
        caller = Principal("user:ben", TENANT, frozenset({role}))
        with pytest.raises(Forbidden):
            await retention.read(caller)
        with pytest.raises(Forbidden):
            await retention.write(caller, {"runs_days": None, "audit_days": None})
        assert (await ground.counts())["audit_records"] == 0


def test_nothing_is_kept_for_ever_unless_said() -> None:
    """P6: a year for runs, ten for audit records; 0 in the settings is for ever."""
    assert keep_of_settings(Settings()) == Keep(365, 3_650, None, None, None)
    some = Settings(conversation_retention_days=1, document_retention_days=2, memory_retention_days=3)
    assert keep_of_settings(some) == Keep(365, 3_650, 1, 2, 3)
    assert keep_of_settings(Settings(retention_days=0, audit_retention_days=0)) == Keep(None, None)
