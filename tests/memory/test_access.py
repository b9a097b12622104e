"""Who may read and change what is remembered, and whose it is (P2, R5)."""

from __future__ import annotations

import pytest

from contracts.access import Principal
from contracts.errors import Forbidden, MemoryNotFound
from contracts.memory import MemoryLimits, Scope, read_scope
from service.memory import Memory
from store.connect import Database
from tests.events.runs_in_log import Wall
from tests.routes.serving import Counting

BRAND = Scope("shared", "brand")


def person(*roles: str, tenant: str = "default") -> Principal:
    return Principal("user:ana", tenant, frozenset(roles))


async def memory_of(url: str) -> tuple[Database, Memory]:
    database = await Database.open(url, clock=Wall())
    return database, Memory(database, Wall(), Counting(), MemoryLimits())


async def test_one_tenants_memory_is_nobody_elses(database_url: str) -> None:
    database, memory = await memory_of(database_url)
    try:
        mine, theirs = person("admin"), person("admin", tenant="other")
        await memory.put(mine, BRAND, "k", {"value": "mine"}, None)
        with pytest.raises(MemoryNotFound):
            await memory.get(theirs, BRAND, "k")
        await memory.put(theirs, BRAND, "k", {"value": "theirs"}, 0)
        assert (await memory.forget(theirs, BRAND))["forgotten"] == 1
        assert (await memory.get(mine, BRAND, "k"))["value"] == "mine"
        assert (await memory.scopes(theirs, cursor=None, limit=10))["items"] == []
    finally:
        await database.close()


@pytest.mark.parametrize(("role", "writes", "empties"), [
    ("submitter", False, False), ("builder", True, False), ("operator", True, True), ("admin", True, True),
])  # fmt: skip
async def test_roles(sqlite_url: str, role: str, writes: bool, empties: bool) -> None:
    database, memory = await memory_of(sqlite_url)
    try:
        caller = person(role)
        tries = (
            (writes, lambda: memory.put(caller, BRAND, "k", {"value": 1}, None)),
            (writes, lambda: memory.delete(caller, BRAND, "k", None)),
            (empties, lambda: memory.forget(caller, BRAND)),
        )
        for allowed, asked in tries:
            if allowed:
                await asked()
            else:
                with pytest.raises(Forbidden):
                    await asked()
        assert (await memory.page(caller, BRAND, prefix="", cursor=None, limit=1))["items"] == []
    finally:
        await database.close()


def test_a_scope_is_read_in_one_way() -> None:
    """R5, R6: the name of a scope says exactly which parts it has."""
    assert read_scope("shared:brand") == Scope("shared", "brand")
    assert read_scope("agent:a_b/c") == Scope("agent", "a_b", "c") != read_scope("agent:a/b_c")
    assert read_scope("shared:a:b") == Scope("shared", "a:b")
    for text in ("", "brand", "shared:", "shared:a/b", "agent:a", "agent:a/", "agent:/s", "agent:a/s/t", "story:x",
                 "shared: brand", "Shared:brand", "shared:br\x00and"):  # fmt: skip
        assert read_scope(text) is None
    for scope in (Scope("shared", "b"), Scope("agent", "w", "s")):
        assert read_scope(str(scope)) == scope
