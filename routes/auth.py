"""Who is calling (P2)."""

from __future__ import annotations

from starlette.requests import Request

from contracts.access import LOCAL, Principal


def principal_of(request: Request) -> Principal:
    """Return the caller. Without configured authentication that is the local user with every role (wire §5a)."""
    caller: Principal = request.scope.get("flex.principal", LOCAL)
    return caller
