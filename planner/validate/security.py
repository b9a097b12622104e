"""Layer 2, security: secrets in plain text, and what policy forbids (W4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from contracts.memory import read_scope
from contracts.plan import Finding
from contracts.scopes import SCOPE_MISSING, sentence
from contracts.wire import pointer_of
from planner.draft import Draft
from planner.gates import broken_gates

_SHAPES: Final = re.compile(
    r"\b(?:sk|rk|pk)[-_][A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\bxox[abposr]-[A-Za-z0-9-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."
    r"|\bBearer\s+[A-Za-z0-9._~+/-]{16,}"
)
_NAMES: Final = re.compile(
    r"(?:password|passwd|secret|api_?key|access_?token|auth_?token|authorization|private_?key)$", re.I
)


def secret_literals(draft: Draft) -> Iterator[Finding]:
    """A literal that looks like a secret: plans are stored, streamed and shown."""
    for unit in draft.everyone():
        values = [
            (pointer_of(["inputs", name]), name, bound.value)
            for name, bound in unit.node.inputs.items()
            if bound.is_value
        ]
        values += [(pointer_of([name]), name, value) for name, value in unit.node.own.items() if name != "node"]
        for below, name, value in values:
            where = _secret(value, name)
            if where is not None:
                message = "This looks like a secret in plain text; everybody who sees the plan sees it."
                fix = "Configure it in the capability instead."
                found = unit.finding("security", "secret_literal", message, below + where, fix)
                yield found.model_copy(update={"severity": "warning"})


def _secret(value: Any, name: str) -> str | None:
    """Return where below ``value`` the first secret-looking text is, or None."""
    if isinstance(value, str):
        return "" if _SHAPES.search(value) or (_NAMES.search(name) and value) else None
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        below = _secret(item, str(key))
        if below is not None:
            return pointer_of([key]) + below
    return None


def forbidden_capabilities(draft: Draft) -> Iterator[Finding]:
    """A capability that the envelope's selection forbids."""
    for unit in draft.everyone():
        if unit.node.capability_id in draft.scene.forbidden:
            message = f"{unit.node.capability_id!r} is forbidden here."
            yield unit.finding(
                "security", "capability_forbidden", message, "/capability_id", "Use another, or allow it."
            )


def bypassed_gates(draft: Draft) -> Iterator[Finding]:
    """A gate that came with the plan and that something goes around."""
    nodes = [unit.node for unit in draft.units]
    if not any("guards" in node.own for node in nodes):
        return
    seen: set[str] = set()
    for gate, problem in broken_gates(nodes, draft.edges, draft.output, draft.scene.kinds):
        if gate not in seen:
            seen.add(gate)
            unit = draft.units[draft.by_id[gate]]
            message = f"The gate {gate!r} is not one: {problem}."
            yield unit.finding("security", "gate_bypassed", message, fix="Leave the gate out; it is added again.")


def refused_literals(draft: Draft) -> Iterator[Finding]:
    """A literal that its capability would refuse: a forbidden host, a template or expression outside its language."""
    for unit in draft.everyone():
        for name, check in unit.spec.literals.items() if unit.spec is not None else ():
            bound = unit.node.inputs.get(name)
            found = check(bound.value) if bound is not None and bound.is_value else None
            if found is not None:
                yield unit.finding("security", *found, pointer_of(["inputs", name]))


def unnamed_scopes(draft: Draft) -> Iterator[Finding]:
    """A scope of memory that the envelope does not name: a run touches no other (R5)."""
    named = {read_scope(name) for name in draft.scene.envelope.context.memory}
    for unit in draft.everyone():
        if unit.kind is not None and unit.own is not None:
            for below, name in unit.kind.scopes(unit.own):
                if read_scope(name) not in named:
                    message = f"The envelope does not name {name!r} in context.memory."
                    yield unit.finding("security", "memory_scope_unnamed", message, below, "Name it there.")


def missing_scopes(draft: Draft) -> Iterator[Finding]:
    """A call, or a chat's tool, that requires a scope which the run was not granted."""
    scene = draft.scene
    if scene.envelope.granted is None or not scene.index.scopes:
        return
    for unit in draft.everyone():
        called = [("/capability_id", unit.spec)] if unit.spec is not None else []
        if unit.kind is not None and unit.own is not None:
            for place, name in enumerate(unit.kind.calls(unit.own)):
                called += [(pointer_of(["tools", place]), spec) for spec in scene.index.versions.get(name, [])[:1]]
        for below, spec in called:
            lacks = scene.lacking(spec)
            if lacks:
                fix = f"Have {', '.join(lacks)} granted to the caller, or use another capability."
                yield unit.finding("security", SCOPE_MISSING, sentence(spec.capability_id, lacks), below, fix)


CHECKS: Final = (
    secret_literals,
    forbidden_capabilities,
    missing_scopes,
    bypassed_gates,
    refused_literals,
    unnamed_scopes,
)
