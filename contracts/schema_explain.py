"""Explanation of a refused value: every failing place with a sentence a person can act on (F11).

jsonschema walks the schema; our keyword functions replace its own, because its sentences quote whole values, its
regexes can hang and its numbers differ from jsonschema-rs'. One explanation has a budget of keyword evaluations, so a
hostile schema costs a bounded time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import jsonschema
import jsonschema.validators

from contracts.schema_drafts import Draft, Json, resolver_of
from contracts.schema_keywords import ASSERTIONS
from contracts.schema_nesting import NESTING
from contracts.schema_walk import pointer_of

BUDGET = 20_000
"""Keyword evaluations one explanation may take, a third of a second or so."""

_BRANCH_KEYWORDS = frozenset({"type", "const", "enum", "false"})


@dataclass(frozen=True, slots=True)
class SchemaFinding:
    """One failing place: RFC 6901 pointer into the value, the keyword that failed, a sentence."""

    pointer: str
    keyword: str
    message: str

    def as_wire(self) -> dict[str, str]:
        """Return the finding as it stands in ``validation_error`` frames and repair prompts."""
        return {"pointer": self.pointer, "keyword": self.keyword, "message": self.message}


class OverBudget(Exception):
    """The explanation took more keyword evaluations than ``BUDGET``."""


_spent = threading.local()


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a keyword function so that it counts against the running explanation."""

    def counted(validator: Any, value: Json, instance: Json, schema: Json) -> Any:
        _spent.steps += 1
        if _spent.steps > BUDGET:
            raise OverBudget
        return function(validator, value, instance, schema)

    return counted


@lru_cache(maxsize=16)
def _validator_class(draft: Draft) -> Any:
    """Return jsonschema's class for a draft with our keyword functions, counted."""
    # Newer drafts dropped "dependencies"; jsonschema-rs still honours it there, and so do we.
    stock = draft.python.VALIDATORS | {"dependencies": NESTING["dependencies"]}
    own = ASSERTIONS | NESTING
    ours = {name: _counted(own.get(name, function)) for name, function in stock.items()}
    return cast("Any", jsonschema.validators).extend(draft.python, ours)


def python_findings(
    draft: Draft, document: Json, instance: Json, known: Mapping[str, Json] | None = None
) -> list[SchemaFinding]:
    """Return every failing place jsonschema sees, sorted by pointer; empty if it accepts the value.

    ``document`` is a schema without ``$schema`` (jsonschema would switch to its stock class there), ``known`` are
    further documents by address. Raises ``OverBudget``, or ``RecursionError`` for values nested beyond Python's stack.
    """
    _spent.steps = 0
    # With a registry, jsonschema would add the published meta-schemas to it: documents with a ``$schema``.
    validator = _validator_class(draft)(document, _resolver=resolver_of(draft, document, known))
    found: set[SchemaFinding] = set()
    for error in validator.iter_errors(instance):
        found.update(_flatten(error, ()))
    return sorted(found, key=lambda each: (each.pointer, each.keyword, each.message))


def _flatten(error: jsonschema.ValidationError, prefix: tuple[str | int, ...]) -> Iterator[SchemaFinding]:
    """Yield an error, or the errors of its best-matching branch."""
    path = (*prefix, *error.relative_path)
    branch = _best_branch(error)
    if branch:
        for each in branch:
            yield from _flatten(each, path)
        return
    keyword = str(error.validator) if error.validator else "false"
    yield SchemaFinding(pointer_of(path), keyword, _sentence(error))


def _sentence(error: jsonschema.ValidationError) -> str:
    if not error.validator:
        return "Nothing is allowed here."
    wants = dict.fromkeys(each.message for each in error.context or () if not each.relative_path and not each.context)
    return " ".join([error.message, *list(wants)[:3]])


def _best_branch(error: jsonschema.ValidationError) -> list[jsonschema.ValidationError]:
    """Return the errors of the alternative the value comes closest to; none if it resembles no alternative."""
    branches: dict[Any, list[jsonschema.ValidationError]] = {}
    for each in error.context or ():
        branches.setdefault(each.relative_schema_path[0], []).append(each)
    if not branches:
        return []
    best = min(branches.values(), key=_distance)
    return best if _distance(best)[0] == 0 or len(branches) == 1 else []


def _distance(branch: list[jsonschema.ValidationError]) -> tuple[int, int, int]:
    """Return how far a value is from an alternative: wrong kind of value, wrong discriminator, number of errors."""
    telling = [len(each.relative_path) for each in branch if (each.validator or "false") in _BRANCH_KEYWORDS]
    return telling.count(0), telling.count(1), len(branch)
