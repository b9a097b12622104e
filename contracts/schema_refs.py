"""Intake of a schema, second half: its references, identifiers, regexes and loops (F3).

``survey`` visits every subschema once, by keyword (data under ``const`` or ``enum`` is not schema), follows local
references and refuses remote ones. It also prices the schema: chains of references can make a checker's work grow
exponentially with a small document, and such schemas are metered (see ``contracts/schema.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import referencing.exceptions

from contracts.errors import ErrorItem
from contracts.schema_drafts import Draft, Json, draft_of, pattern_compiles, resolver_of
from contracts.schema_walk import SchemaLimits, pointer_of

IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"})
_SINGLE = (
    "not", "if", "then", "else", "additionalProperties", "propertyNames", "contains", "unevaluatedItems",
    "unevaluatedProperties", "additionalItems", "items", "contentSchema",
)  # fmt: skip
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
_SHELVES = frozenset({"$defs", "definitions", "contentSchema"})
_REFS = ("$ref", "$dynamicRef", "$recursiveRef")
_LOST = (referencing.exceptions.Unresolvable, ValueError, TypeError, LookupError, AttributeError)


@dataclass(slots=True, eq=False)
class Node:
    """One subschema: where it stands, its base, and which subschemas it applies to the same value or to a part."""

    schema: dict[str, Json]
    pointer: str
    base: str
    resolver: Any
    unlisted: bool
    same: list[Node] = field(default_factory=list)
    parts: list[tuple[str, Node]] = field(default_factory=list)


@dataclass(slots=True)
class Survey:
    """What the visit found: every subschema by identity, findings, and targets the meta-schema has not seen."""

    draft: Draft
    limits: SchemaLimits
    nodes: dict[int, Node] = field(default_factory=dict)
    problems: list[ErrorItem] = field(default_factory=list)
    unlisted: list[Node] = field(default_factory=list)
    names: set[tuple[str, str]] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    pending: list[tuple[Node, str, Node]] = field(default_factory=list)
    references: list[tuple[Node, str, Node]] = field(default_factory=list)

    def refuse(self, pointer: str, code: str, message: str) -> None:
        """Note one finding."""
        self.problems.append(ErrorItem(pointer, code, message))


def survey(schema: dict[str, Json], draft: Draft, limits: SchemaLimits) -> Survey:
    """Visit a schema that its meta-schema accepts; the findings are in the result."""
    result = Survey(draft, limits)
    try:
        resolver = resolver_of(draft, schema)
    except _LOST:
        result.refuse("", "schema_invalid", "An $id in this schema is not a usable address.")
        return result
    root = Node(schema, "", "", resolver, unlisted=False)
    _visit(result, [root])
    _settle_references(result)
    _link_dynamic(result)
    return result


def _visit(result: Survey, stack: list[Node]) -> None:
    while stack:
        node = stack.pop()
        if result.nodes.setdefault(id(node.schema), node) is not node:
            continue
        silenced = result.draft.legacy and isinstance(node.schema.get("$ref"), str)
        if not silenced:
            _identify(result, node)
            _check_patterns(result, node)
        for keyword, step, child in _subschemas(result.draft, node.schema):
            below = Node(child, node.pointer + pointer_of(step), node.base, node.resolver, node.unlisted)
            stack.append(below)
            if keyword in _SHELVES or silenced:
                continue
            _link(node, keyword, below)
        for keyword in _REFS:
            _follow(result, node, keyword)


def _link(node: Node, keyword: str, target: Node) -> None:
    if keyword in IN_PLACE:
        node.same.append(target)
    else:
        node.parts.append((keyword, target))


def _subschemas(draft: Draft, schema: dict[str, Json]) -> Iterator[tuple[str, list[str | int], dict[str, Json]]]:
    """Yield the subschemas of one schema that are objects: keyword, path, subschema."""
    for keyword, value in schema.items():
        if keyword in draft.unknown:
            continue
        if keyword in _SINGLE and isinstance(value, dict):
            yield keyword, [keyword], value
        elif keyword in _LISTS and isinstance(value, list):
            for at, each in enumerate(value):
                if isinstance(each, dict):
                    yield keyword, [keyword, at], each
        elif keyword in _MAPS and isinstance(value, dict):
            for name, each in value.items():
                if isinstance(each, dict):
                    yield keyword, [keyword, name], each


def _identify(result: Survey, node: Node) -> None:
    """Enter the node's ``$id`` and anchors; a name declared twice would be read differently by the libraries."""
    schema = node.schema
    named = schema.get("$schema")
    if named is not None and (node.pointer or node.unlisted) and draft_of(named) is not result.draft:
        result.refuse(f"{node.pointer}/$schema", "unsupported_draft", "One document must use one draft.")
    own = schema.get("$id")
    names = [(key, schema[key]) for key in ("$anchor", "$dynamicAnchor") if isinstance(schema.get(key), str)]
    if isinstance(own, str) and own.startswith("#"):
        names, own = [("$id", own)], None
    if (own is not None or names) and node.unlisted:
        result.refuse(node.pointer, "unresolvable_ref", "Schemas with a name of their own belong under $defs.")
        return
    if isinstance(own, str):
        _enter(result, node, own)
    for name, key in {name: key for key, name in names}.items():
        _claim(result, node, key, node.base, name)


def _enter(result: Survey, node: Node, own: str) -> None:
    try:
        node.base = urljoin(node.base, own.removesuffix("#"))
        node.resolver = node.resolver.in_subresource(result.draft.specification.create_resource(node.schema))
    except _LOST:
        result.refuse(f"{node.pointer}/$id", "schema_invalid", "Is not a usable address.")
        return
    if "//json-schema.org/" in node.base:
        result.refuse(f"{node.pointer}/$id", "schema_invalid", "Addresses at json-schema.org are taken.")
    _claim(result, node, "$id", node.base, "")


def _claim(result: Survey, node: Node, key: str, base: str, name: str) -> None:
    if (base, name) in result.names:
        result.refuse(f"{node.pointer}/{key}", "schema_invalid", "This name is declared twice.")
    result.names.add((base, name))


def _check_patterns(result: Survey, node: Node) -> None:
    found = [("/pattern", node.schema["pattern"])] if isinstance(node.schema.get("pattern"), str) else []
    keyed = node.schema.get("patternProperties")
    if isinstance(keyed, dict):
        found += [("/patternProperties" + pointer_of([name]), name) for name in keyed]
    for step, pattern in found:
        if pattern in result.patterns:
            continue
        result.patterns.add(pattern)
        message = _pattern_problem(pattern, result)
        if message:
            result.refuse(node.pointer + step, "bad_pattern", message)


def _pattern_problem(pattern: str, result: Survey) -> str | None:
    if len(result.patterns) > result.limits.max_patterns:
        return f"A schema may have at most {result.limits.max_patterns} different patterns."
    if len(pattern) > result.limits.max_pattern_chars:
        return f"A pattern may have at most {result.limits.max_pattern_chars} characters."
    if not pattern_compiles(pattern):
        return "Is not usable: wrong syntax, too large, or look-around or back-references, which are not supported."
    return None


def _follow(result: Survey, node: Node, keyword: str) -> None:
    """Resolve one reference; its target waits in ``pending`` until the keywords have been walked."""
    ref = node.schema.get(keyword)
    if not isinstance(ref, str) or keyword not in result.draft.python.VALIDATORS:
        return
    where = f"{node.pointer}/{keyword}"
    try:
        found = node.resolver.lookup(ref)
    except _LOST as error:
        if type(error) is referencing.exceptions.Unresolvable:
            result.refuse(where, "remote_ref", "Refers outside this document; only local references are followed.")
        else:
            result.refuse(where, "unresolvable_ref", "Refers to nothing in this document.")
        return
    if isinstance(found.contents, dict):
        target = Node(found.contents, where, node.base, found.resolver, unlisted=True)
        result.pending.append((node, keyword, target))
    elif not isinstance(found.contents, bool):
        result.refuse(where, "unresolvable_ref", "Refers to something that is not a schema.")


def _settle_references(result: Survey) -> None:
    """Link every reference to its target; a target no keyword leads to is visited now and may refer on."""
    while result.pending:
        node, keyword, found = result.pending.pop()
        target = result.nodes.get(id(found.schema))
        if target is None:
            result.unlisted.append(found)
            _visit(result, [found])
            target = found
        node.same.append(target)
        result.references.append((node, keyword, target))


def _link_dynamic(result: Survey) -> None:
    """Link dynamic references to every place they might lead to at run time."""
    for node, keyword, target in result.references:
        if keyword == "$dynamicRef" and "$dynamicAnchor" in target.schema:
            name = target.schema["$dynamicAnchor"]
            node.same.extend(each for each in result.nodes.values() if each.schema.get("$dynamicAnchor") == name)
        elif keyword == "$recursiveRef" and target.schema.get("$recursiveAnchor") is True:
            node.same.extend(each for each in result.nodes.values() if each.schema.get("$recursiveAnchor") is True)
