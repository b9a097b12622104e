"""What a caller may have done in its name: scopes that capabilities require and principals were granted (W4).

A scope is a name like ``crm:write``. It stands next to roles: a role says which doors a caller may use, a scope which
capabilities its runs may call. ``*`` grants every scope; the caller of an unconfigured service has it, as it has every
role (wire §5a).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from contracts.access import ANY_SCOPE, Principal
from contracts.capability import CapabilitySpec, Catalogue
from contracts.errors import ErrorItem

SCOPE_MISSING: Final = "scope_missing"
PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$"
Scope = Annotated[str, Field(min_length=1, max_length=128, pattern=PATTERN)]
"""A scope as registrations and agents' front matter write it."""
_SHAPE: Final = re.compile(PATTERN)
Granted = frozenset[str] | None
"""The scopes of a caller or a run; None: every one."""


def is_scope(name: str) -> bool:
    """Say whether a capability may require it: 1 to 128 letters, digits and ``_ . : / -``."""
    return _SHAPE.match(name) is not None


def granted_to(principal: Principal) -> Granted:
    """Return what a run of this caller may use."""
    return None if ANY_SCOPE in principal.scopes else principal.scopes


def lacking(required: Iterable[str], granted: Granted) -> list[str]:
    """Return the scopes that are required and not granted, sorted."""
    return [] if granted is None else sorted(set(required) - granted)


def sentence(capability_id: str, lacks: Iterable[str]) -> str:
    """Return what is told of a capability that may not be used."""
    return f"{capability_id!r} needs the scope {', '.join(lacks)}, which was not granted."


def refused_nodes(
    plan: Mapping[str, Any], catalogue: Catalogue, granted: Granted, at: str = "", left_out: Container[int] = ()
) -> list[ErrorItem]:
    """Return an item per call of a plan (JSON, complete) that needs more than was granted, however deep it stands.

    ``left_out`` are places of nodes that are not looked at. Nothing is while no capability requires a scope.
    """
    if granted is None:
        return []
    required = _required(catalogue)
    if not required:
        return []
    found = []
    for place, node in enumerate(plan.get("nodes", ())):
        for pointer, name, version in () if place in left_out else _of_node(node, f"{at}/nodes/{place}"):
            lacks = lacking(_scopes(required.get(name, {}), version), granted)
            if lacks:
                found.append(ErrorItem(pointer, SCOPE_MISSING, sentence(name, lacks)))
    return found


def scopes_of(plan: Mapping[str, Any], catalogue: Catalogue) -> tuple[str, ...]:
    """Return every scope that something in a plan (JSON) requires, however deep it stands, sorted."""
    required = _required(catalogue)
    called = _calls(plan, "") if required else ()
    return tuple(sorted({scope for _, name, version in called for scope in _scopes(required.get(name, {}), version)}))


def _scopes(versions: Mapping[str, tuple[str, ...]], version: str | None) -> tuple[str, ...]:
    """Return what a version requires; without one what any of them does."""
    if version is not None and version in versions:
        return versions[version]
    return tuple(scope for scopes in versions.values() for scope in scopes)


def _required(catalogue: Catalogue) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return capability → version → scopes, of those that require any in some version."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for spec in catalogue.capabilities:
        found.setdefault(spec.capability_id, {})[spec.version] = spec.scopes
    for (name, version), scopes in required_scopes(catalogue.capabilities).items():
        found[name][version] = scopes
    return {name: versions for name, versions in found.items() if any(versions.values())}


def _calls(plan: Mapping[str, Any], at: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield (pointer, capability, version) of everything that a plan may call."""
    for place, node in enumerate(plan.get("nodes", ())):
        yield from _of_node(node, f"{at}/nodes/{place}")


def _of_node(node: Mapping[str, Any], at: str) -> Iterator[tuple[str, str, str | None]]:
    name = node.get("capability_id")
    if isinstance(name, str):
        yield f"{at}/capability_id", name, node.get("capability_version")
    for place, tool in enumerate(node.get("tools") or ()):
        if isinstance(tool, str):
            yield f"{at}/tools/{place}", tool, None
    for place, flow in enumerate(node.get("flows") or ()):
        yield from _calls(flow.get("plan") or {}, f"{at}/flows/{place}/plan")
    if isinstance(node.get("node"), Mapping):
        yield from _of_node(node["node"], f"{at}/node")
    if isinstance(node.get("plan"), Mapping):
        yield from _calls(node["plan"], f"{at}/plan")


def required_scopes(capabilities: Sequence[CapabilitySpec]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return (capability, version) → what it requires together with everything it may have called as a tool.

    Only of those that require a scope; empty, and at once, while none does.
    """
    if not any(spec.scopes for spec in capabilities):
        return {}
    versions: dict[str, list[CapabilitySpec]] = {}
    for spec in capabilities:
        versions.setdefault(spec.capability_id, []).append(spec)
    found = {}
    for spec in capabilities:
        scopes, line, seen = set(spec.scopes), list(spec.tools), set(spec.tools)
        while line:
            for tool in versions.get(line.pop(), ()):
                scopes.update(tool.scopes)
                line += [name for name in tool.tools if name not in seen]
                seen.update(tool.tools)
        if scopes:
            found[spec.capability_id, spec.version] = tuple(sorted(scopes))
    return found
