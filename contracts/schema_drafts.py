"""The JSON Schema drafts this service speaks, and how each library is told to speak them (F3).

Both validators get the same formats, the same linear-time regex engine and a retriever that refuses: out of the box
jsonschema-rs would fetch ``http:`` and ``file:`` references, and neither library asserts formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn, cast

import jsonschema
import jsonschema_rs
import orjson
import referencing
import referencing.jsonschema

Json = Any
"""A JSON value as orjson gives it: dict, list, str, int, float, bool or None."""

FORMATS: Final = (
    "date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri",
    "uri-reference", "iri", "iri-reference", "uri-template", "uuid", "json-pointer", "relative-json-pointer", "regex",
)  # fmt: skip
"""Asserted in every draft; a format not listed here is a note and never fails."""

FUEL_KEYWORD: Final = "x-flex-fuel"

# One pattern may compile to this many bytes. The engine is linear in the text but not in `(a{999}){999}`.
REGEX: Final = jsonschema_rs.RegexOptions(size_limit=1 << 21, dfa_size_limit=1 << 21)


@dataclass(frozen=True, slots=True)
class Draft:
    """One draft: its name, its ``$schema`` address, both libraries' classes, and the keywords it does not know."""

    name: str
    uri: str
    python: Any
    rust: type[jsonschema_rs.Validator]
    specification: referencing.Specification[Json]
    unknown: frozenset[str]

    @property
    def legacy(self) -> bool:
        """Whether ``$ref`` silences its neighbours (drafts 6 and 7)."""
        return self.name in {"draft6", "draft7"}


_NEWER = {"$defs", "dependentSchemas", "prefixItems", "unevaluatedItems", "unevaluatedProperties", "contentSchema"}
_JS = referencing.jsonschema

DRAFT_2020_12: Final = Draft(
    "draft2020-12", "https://json-schema.org/draft/2020-12/schema", jsonschema.Draft202012Validator,
    jsonschema_rs.Draft202012Validator, _JS.DRAFT202012, frozenset({"additionalItems", "definitions"}),
)  # fmt: skip
DRAFT_2019_09: Final = Draft(
    "draft2019-09", "https://json-schema.org/draft/2019-09/schema", jsonschema.Draft201909Validator,
    jsonschema_rs.Draft201909Validator, _JS.DRAFT201909, frozenset({"prefixItems", "definitions"}),
)  # fmt: skip
DRAFT_7: Final = Draft(
    "draft7", "http://json-schema.org/draft-07/schema", jsonschema.Draft7Validator,
    jsonschema_rs.Draft7Validator, _JS.DRAFT7, frozenset(_NEWER),
)  # fmt: skip
DRAFT_6: Final = Draft(
    "draft6", "http://json-schema.org/draft-06/schema", jsonschema.Draft6Validator,
    jsonschema_rs.Draft6Validator, _JS.DRAFT6, frozenset(_NEWER | {"if", "then", "else"}),
)  # fmt: skip

DRAFTS: Final[tuple[Draft, ...]] = (DRAFT_2020_12, DRAFT_2019_09, DRAFT_7, DRAFT_6)


def draft_of(uri: object) -> Draft | None:
    """Return the draft a ``$schema`` value names, None for any other value. An empty fragment is ignored."""
    return next((each for each in DRAFTS if isinstance(uri, str) and uri.removesuffix("#") == each.uri), None)


def refuse_retrieval(uri: str) -> NoReturn:
    """Refuse to fetch anything: the retriever of both libraries. Raises ``LookupError``."""
    raise LookupError(uri)


def resolver_of(draft: Draft, document: Json, known: Mapping[str, Json] | None = None) -> Any:
    """Return a resolver rooted at ``document`` that knows nothing but it and ``known`` (address → schema)."""
    # mypy does not see the constructors of referencing's attrs classes.
    registry: Any = cast("Any", referencing.Registry)(retrieve=refuse_retrieval)
    create = draft.specification.create_resource
    registry = registry.with_resources((uri, create(contents)) for uri, contents in (known or {}).items())
    return registry.resolver_with_root(create(document))


def _format_checks() -> dict[str, Any]:
    """Return every asserted format's check. The 2020-12 check serves all drafts: older ones lack uuid and duration."""

    def check_for(name: str) -> Any:
        built_in = jsonschema_rs.Draft202012Validator(
            {"format": name}, validate_formats=True, retriever=refuse_retrieval, pattern_options=REGEX
        )
        return built_in.is_valid

    return {name: check_for(name) for name in FORMATS}


FORMAT_CHECKS: Final[Mapping[str, Any]] = _format_checks()
# Newer drafts' validators know these natively; a Python callback per string would cost ten times as much.
_NATIVE_DRAFTS: Final = frozenset({"draft2020-12", "draft2019-09"})


def rust_validator(
    draft: Draft, document: Json, keywords: dict[str, type[Any]] | None = None
) -> jsonschema_rs.Validator:
    """Build a jsonschema-rs validator that fetches nothing, asserts ``FORMATS`` and matches in linear time.

    Raises ``ValueError`` (jsonschema_rs.ValidationError is one) if the library refuses the document.
    """
    formats = None if draft.name in _NATIVE_DRAFTS else dict(FORMAT_CHECKS)
    return draft.rust(
        document,
        formats=formats,
        validate_formats=True,
        retriever=refuse_retrieval,
        pattern_options=REGEX,
        keywords=keywords,
    )


@lru_cache(maxsize=2048)
def _leaf(key: bytes) -> jsonschema_rs.Validator:
    return rust_validator(DRAFT_2020_12, orjson.loads(key))


def leaf_accepts(keyword: str, value: Json, instance: Json) -> bool:
    """Return jsonschema-rs' verdict on one assertion, so that both validators judge it alike.

    Used where the libraries differ: regexes, formats, equality of numbers, multiples.
    """
    return _leaf(orjson.dumps({keyword: value})).is_valid(instance)


def pattern_compiles(pattern: str) -> bool:
    """Return whether the linear-time regex engine takes ``pattern``."""
    try:
        _leaf(orjson.dumps({"pattern": pattern}))
    except ValueError:
        return False
    return True
