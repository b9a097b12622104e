"""The caller's JSON Schema: compiled once, checked fast, explained well (F2, F3, F11).

jsonschema-rs gives the verdict, jsonschema the explanation; this module and its ``schema_*`` siblings are the only
importers of both. A schema is hostile input: it is bounded in size and depth, fetches nothing, loops nowhere, its
regexes run in linear time, and one whose checking could explode is *metered*: every subschema counts, and a check that
counts beyond ``FUEL`` refuses the value instead of holding the service up.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Any, Final, cast

import jsonschema.validators
import jsonschema_rs
import orjson

from contracts.errors import ErrorItem, FlexError
from contracts.schema_cost import find_loop, is_expensive
from contracts.schema_drafts import FUEL_KEYWORD, Draft, Json, rust_validator
from contracts.schema_explain import OverBudget, SchemaFinding, python_findings
from contracts.schema_refs import Survey, survey
from contracts.schema_walk import (
    DEFAULT_LIMITS,
    SchemaLimits,
    bound_problem,
    canonical,
    choose_draft,
    pointer_of,
    size_problem,
)

__all__ = [
    "DEFAULT_LIMITS",
    "CompiledSchema",
    "SchemaFinding",
    "SchemaLimits",
    "SchemaRefused",
    "compile_schema",
    "content_hash",
]

CACHE_SIZE: Final = 512
FUEL: Final = 200_000
"""Subschemas a metered check may enter, a fifth of a second or so."""

_MAX_PROBLEMS = 50


class SchemaRefused(FlexError):
    """The schema cannot be used."""

    status, code, title = 422, "schema_refused", "Schema refused"


def content_hash(value: Json) -> str:
    """Return the hex SHA-256 of a value's canonical JSON (keys sorted, no spaces).

    Raises ``TypeError`` for what orjson cannot write: other types, integers beyond 64 bits, nesting beyond 254.
    """
    return hashlib.sha256(canonical(value)).hexdigest()


_fuel = threading.local()


class _FuelKeyword:
    """The keyword put into every subschema of a metered schema: fails once the check's fuel is used up."""

    def __init__(self, parent_schema: dict[str, Any], value: Any, schema_path: list[str | int]) -> None:
        """Take jsonschema-rs' arguments; none matters."""

    def validate(self, instance: Json) -> None:
        """Count one evaluation; raises ``ValueError``, a failed keyword, when none is left."""
        _fuel.left -= 1
        if _fuel.left < 0:
            raise ValueError("fuel")


class CompiledSchema:
    """A schema that was accepted; immutable and safe to share between threads.

    Attributes: ``schema`` (the JSON value, read only by convention), ``content_hash`` (hex SHA-256 of its canonical
    JSON), ``draft`` (``draft2020-12``, ``draft2019-09``, ``draft7`` or ``draft6``), ``metered`` (see the module).
    """

    __slots__ = ("_document", "_draft", "_rust", "content_hash", "draft", "metered", "schema")

    schema: Json
    content_hash: str
    draft: str
    metered: bool
    _draft: Draft
    _document: Json
    _rust: jsonschema_rs.Validator

    def __init__(self, schema: Json, digest: str, draft: Draft, document: Json, rust: Any, metered: bool) -> None:
        """Built by ``compile_schema`` only."""
        for name, value in (
            ("schema", schema), ("content_hash", digest), ("draft", draft.name), ("metered", metered),
            ("_draft", draft), ("_document", document), ("_rust", rust),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a CompiledSchema does not change")

    def __repr__(self) -> str:
        return f"<CompiledSchema {self.draft} {self.content_hash[:12]}>"

    def is_valid(self, instance: Json) -> bool:
        """Return whether a JSON value (as orjson reads it) satisfies the schema. Never raises for such values.

        A metered check that runs out of fuel, and a value that is not JSON, count as invalid. Nesting beyond orjson's
        1024 levels is the caller's to refuse: jsonschema-rs recurses, and some ten thousand levels end the process.
        """
        return self._refusal(instance) is None

    def _refusal(self, instance: Json) -> str | None:
        """Return None if the value is accepted, "" if it breaks the schema, else why it could not be checked."""
        _fuel.left = FUEL
        try:
            accepted = self._rust.is_valid(instance)
        except ValueError:
            return "Could not be read: it holds something that is not JSON."
        if _fuel.left < 0:
            return "Could not be checked within the work limit: this schema refers to itself too often for this value."
        return None if accepted else ""

    def explain(self, instance: Json, limit: int = 50) -> list[SchemaFinding]:
        """Return every failing place, sorted by pointer, at most ``limit``; empty exactly if ``is_valid``.

        For ``anyOf`` and ``oneOf`` it descends into the alternative the value comes closest to. When jsonschema runs
        over its budget, out of stack, or sees no error, jsonschema-rs' own errors are given.
        """
        refusal = self._refusal(instance)
        if refusal is None:
            return []
        if refusal:
            return [SchemaFinding("", "limit", refusal)]
        try:
            found = python_findings(self._draft, self._document, instance)
        except (OverBudget, RecursionError):
            found = []
        return (found or self._rust_findings(instance))[: max(limit, 1)]

    def _rust_findings(self, instance: Json) -> list[SchemaFinding]:
        # iter_errors collects all errors of all branches first, which for a metered schema may fill the memory.
        if self.metered:
            return [SchemaFinding("", "limit", "Does not match the schema, which is too involved to say where.")]
        return _rust_findings(self._rust, instance)


def _rust_findings(rust: jsonschema_rs.Validator, instance: Json) -> list[SchemaFinding]:
    """Return jsonschema-rs' errors as findings, sorted by pointer."""
    found = {
        SchemaFinding(pointer_of(error.instance_path), error.kind.name, error.message[:500])
        for error in rust.iter_errors(instance)
    }
    return sorted(found, key=lambda each: (each.pointer, each.keyword, each.message))


def compile_schema(schema: Json, *, limits: SchemaLimits = DEFAULT_LIMITS) -> CompiledSchema:
    """Check and compile a schema; equal content gives the same object while it is cached (F3, F11).

    Raises ``SchemaRefused`` whose ``errors`` point into the schema. Codes: ``schema_invalid``, ``schema_too_large``,
    ``schema_too_deep``, ``unsupported_draft``, ``remote_ref``, ``unresolvable_ref``, ``ref_loop``, ``bad_pattern``.
    Never raises anything else, whatever the argument.
    """
    problem = bound_problem(schema, limits)
    if problem is not None:
        raise _refused([problem])
    text = canonical(schema)
    problem = size_problem(text, limits)
    if problem is not None:
        raise _refused([problem])
    digest = hashlib.sha256(text).hexdigest()
    return _CACHE.get((digest, limits)) or _CACHE.keep((digest, limits), _compile(schema, digest, limits))


class _Cache:
    """The compiled schemas used last, by content and limits; safe to use from threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, SchemaLimits], CompiledSchema] = OrderedDict()

    def get(self, key: tuple[str, SchemaLimits]) -> CompiledSchema | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def keep(self, key: tuple[str, SchemaLimits], compiled: CompiledSchema) -> CompiledSchema:
        """Keep ``compiled`` unless another thread was faster; return the one that is kept."""
        with self._lock:
            kept = self._kept.setdefault(key, compiled)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            return kept


_CACHE: Final = _Cache(CACHE_SIZE)


def _refused(problems: list[ErrorItem]) -> SchemaRefused:
    problems = sorted(set(problems), key=lambda each: (each.pointer, each.code, each.message))[:_MAX_PROBLEMS]
    first = problems[0]
    where = f" at {first.pointer}" if first.pointer else ""
    return SchemaRefused(f"The schema cannot be used{where}: {first.message}", errors=problems)


def _compile(schema: Json, digest: str, limits: SchemaLimits) -> CompiledSchema:
    own: Json = orjson.loads(orjson.dumps(schema))
    draft, problem = choose_draft(own)
    problems = [problem] if problem else _meta_problems(draft, own, "")
    if problems:
        raise _refused(problems)
    document = orjson.loads(orjson.dumps(own))
    metered = _prepare(document, draft, limits) if isinstance(document, dict) else False
    try:
        rust = rust_validator(draft, document, {FUEL_KEYWORD: _FuelKeyword} if metered else None)
    except ValueError as error:
        message = f"Is not usable: {str(error).splitlines()[0][:200]}"
        raise _refused([ErrorItem("", "schema_invalid", message)]) from error
    return CompiledSchema(own, digest, draft, document, rust, metered)


def _prepare(document: dict[str, Json], draft: Draft, limits: SchemaLimits) -> bool:
    """Check references, regexes and loops of our copy and make it fit for both validators; return if it is metered."""
    found = survey(document, draft, limits)
    for node in found.unlisted:
        found.problems.extend(_meta_problems(draft, node.schema, node.pointer))
    order, loop = find_loop(found)
    if loop is not None:
        found.problems.append(loop)
    if found.problems:
        raise _refused(found.problems)
    metered = is_expensive(order)
    _neutralise(found, metered)
    return metered


def _neutralise(found: Survey, metered: bool) -> None:
    """Remove what the validators read differently; add the meter.

    ``$schema`` would switch jsonschema to its stock class, and only jsonschema-rs asserts ``content*`` in old drafts.
    """
    for node in found.nodes.values():
        for keyword in ("$schema", "contentMediaType", "contentEncoding"):
            if not isinstance(node.schema.get(keyword), dict | list):
                node.schema.pop(keyword, None)
        if metered:
            node.schema[FUEL_KEYWORD] = True


@lru_cache(maxsize=8)
def _meta(draft: Draft) -> tuple[jsonschema_rs.Validator, Json, dict[str, Json]]:
    """Return a draft's meta-schema for both libraries: a validator, the document, and those it refers to."""
    published: Any = cast("Any", jsonschema.validators).SPECIFICATIONS  # the type stubs do not list it
    known = {
        uri: {key: value for key, value in published.contents(uri).items() if key != "$schema"} for uri in published
    }
    document = next(contents for uri, contents in known.items() if uri.removesuffix("#") == draft.uri)
    return draft.rust(draft.python.META_SCHEMA, validate_formats=False), document, known


def _meta_problems(draft: Draft, schema: Json, prefix: str) -> list[ErrorItem]:
    """Return where a schema breaks its draft's meta-schema; pointers start with ``prefix``."""
    rust, document, known = _meta(draft)
    if rust.is_valid(schema):
        return []
    try:
        found = python_findings(draft, document, schema, known)
    except (OverBudget, RecursionError):
        found = []
    found = found or _rust_findings(rust, schema)
    return [ErrorItem(prefix + each.pointer, "schema_invalid", each.message) for each in found]
