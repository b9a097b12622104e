"""The HTTP application: the table of routes between its doors and the wire."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from contracts.errors import Forbidden
from routes.auth import principal_of
from routes.doors import Doors
from routes.intake import check_query
from routes.measure import Measure
from routes.openapi import document
from routes.origins import Origins
from routes.problems import Problems, router_error
from routes.spec import RouteSpec
from routes.table import ROUTES


def build(doors: Doors, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """Return the ASGI application; ``lifespan`` is what the server runs around it."""
    app = Starlette(
        routes=starlette_routes(ROUTES),
        middleware=[Middleware(Measure), Middleware(Origins), Middleware(Problems)],
        exception_handlers={HTTPException: router_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.doors = doors
    app.state.openapi = cache(lambda: orjson.dumps(document(ROUTES, doors.version)))
    return app


def starlette_routes(specs: Sequence[RouteSpec]) -> list[BaseRoute]:
    """Return one Starlette route per path, its methods dispatched inside, so that a 405 names all of them."""
    by_path = groupby(sorted(specs, key=lambda spec: spec.path), key=lambda spec: spec.path)
    order = {spec.path: place for place, spec in reversed(list(enumerate(specs)))}
    groups: dict[str, dict[str, RouteSpec]] = {path: {spec.method: spec for spec in group} for path, group in by_path}
    return [_route(path, groups[path]) for path in sorted(groups, key=order.__getitem__)]


def _route(path: str, methods: dict[str, RouteSpec]) -> Route:
    async def endpoint(request: Request) -> Response:
        spec = methods["GET" if request.method == "HEAD" else request.method]
        request.scope["flex.route"] = path
        check_query(request, spec.query_names)
        if spec.roles and principal_of(request).roles.isdisjoint(spec.roles):
            raise Forbidden(f"This needs one of the roles {', '.join(spec.roles)}.")
        return await spec.handler(request)

    return Route(path, endpoint, methods=sorted(methods))
