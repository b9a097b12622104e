"""Layer 3, capability: what a chat needs to be able to run: a model, and tools that exist and may be used (W4, W6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contracts.plan import Finding
from contracts.wire import pointer_of
from planner.draft import Draft, Unit


def model(draft: Draft) -> Iterator[Finding]:
    """A node that asks the model where none is configured."""
    if draft.scene.index.catalogue.models:
        return
    for unit in draft.everyone():
        if unit.kind is not None and unit.kind.needs_model:
            message = f"A {unit.node.kind} asks the model, and none is configured."
            yield unit.finding("capability", "model_missing", message, "/kind", "Set FLEX_MODEL.")


def tools(draft: Draft) -> Iterator[Finding]:
    """A tool that is unknown, not active, or forbidden here: of a chat, or of a capability that has others called."""
    for unit in draft.everyone():
        if unit.kind is not None and unit.own is not None:
            for place, name in enumerate(unit.kind.calls(unit.own)):
                yield from _tool(draft, unit, name, pointer_of(["tools", place]))
        given = unit.node.own.get("flows")
        if given and unit.spec is not None and not unit.spec.flows:
            message = f"{unit.spec.capability_id!r} has no flows called."
            yield unit.finding("structure", "unknown_field", message, "/flows")
        for name in () if unit.spec is None else unit.spec.tools:
            yield from _tool(draft, unit, name, "/capability_id")


def _tool(draft: Draft, unit: Unit, name: str, at: str) -> Iterator[Finding]:
    index = draft.scene.index
    if name not in index.versions:
        yield unit.finding("capability", "unknown_capability", f"There is no capability {name!r}.", at)
    elif name not in index.active:
        why = index.catalogue.inactive_reasons.get(name)
        yield unit.finding("capability", "capability_inactive", f"Capability {name!r} is not active.", at, why)
    elif name in draft.scene.forbidden:
        fix = "Use another, or allow it."
        yield unit.finding("security", "capability_forbidden", f"{name!r} is forbidden here.", at, fix)


CHECKS: Final = (model, tools)
