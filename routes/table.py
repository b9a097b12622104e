"""Every route there is, in the order it is tried. To add one: its noun's file and a line here."""

from __future__ import annotations

from typing import Final

from routes import catalogue, flex, nodes, probes, prompts, reference, registrations, runs, session, unsupported
from routes.spec import RouteSpec

ROUTES: Final[tuple[RouteSpec, ...]] = (
    flex.RUN_STREAM,
    flex.RUN_RESUME,
    runs.CREATE,
    runs.INDEX,
    runs.DETAIL,
    runs.EVENTS,
    nodes.PLAN,
    nodes.NODES,
    nodes.NODE,
    nodes.ARTIFACTS,
    nodes.ARTIFACT,
    runs.CANCEL,
    prompts.INDEX,
    prompts.DETAIL,
    prompts.DECIDE,
    prompts.PENDING,
    catalogue.CAPABILITIES,
    registrations.REGISTER,
    registrations.HEARTBEAT,
    registrations.REMOVE,
    catalogue.FACETS,
    catalogue.PLANS,
    session.ME,
    session.CONFIG,
    unsupported.PAUSE,
    unsupported.RESUME,
    unsupported.RETRY,
    unsupported.FORK,
    unsupported.PATCH_PLAN,
    unsupported.TRIGGER,
    probes.LIVE,
    probes.READY,
    probes.METRICS,
    reference.OPENAPI,
    reference.DOCS,
    reference.DOCS_SCRIPT,
    reference.DOCS_STYLE,
)
