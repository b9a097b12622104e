"""Requests by different people: who is calling stands in a header that only these tests know (routes/auth.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from contracts.access import Principal

HEADER = "x-test-person"
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


def named(app: App) -> App:
    """Hand the application the person of the header as its caller; without one, the caller is as ever."""

    async def call(scope: Scope, receive: Any, send: Any) -> None:
        said = dict(scope.get("headers", ())).get(HEADER.encode())
        if said is not None:
            given = orjson.loads(said)
            sets = {name: frozenset(given[name]) for name in ("roles", "groups")}
            scope["flex.principal"] = Principal(given["subject"], given["tenant"], **sets)
        await app(scope, receive, send)

    return call


def as_(person: Principal) -> dict[str, str]:
    """The headers of a request by this person."""
    shown = {
        "subject": person.subject, "tenant": person.tenant, "roles": sorted(person.roles),
        "groups": sorted(person.groups),
    }  # fmt: skip
    return {HEADER: orjson.dumps(shown).decode()}
