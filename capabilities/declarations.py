"""Facets and specs as authors write them, checked where they stand (F4, F15).

Whatever is wrong with a declaration raises :class:`DeclarationError` with its file and line.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.capability import CapabilitySpec, Facet, Param
from contracts.errors import FlexError
from contracts.ids import is_token
from contracts.schema import compile_schema
from contracts.scopes import is_scope

FacetName = str | Facet
Consumes = Mapping[str, str | Facet | Param]
"""Parameter → facet; a name that ends in ``?`` is optional."""
Produces = str | Facet | Sequence[str | Facet]


class DeclarationError(ValueError):
    """A facet or a capability is declared wrongly; ``place`` is ``file:line``."""

    def __init__(self, place: str, message: str) -> None:
        """Keep both."""
        self.place, self.message = place, message
        super().__init__(f"{place}: {message}")


@dataclass(frozen=True, slots=True)
class DeclaredFacet(Facet):
    """A :class:`Facet` that knows where it was declared."""

    place: str = field(default="", compare=False)


def calling_place(depth: int = 2) -> str:
    """Return ``file:line`` of the code ``depth`` calls up (2: whoever called the function that asks)."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def place_of(declared: object) -> str:
    """Return where a facet or capability was declared, as exactly as can be known."""
    place = getattr(declared, "place", "")
    if isinstance(place, str) and place:
        return place
    kind = type(declared)
    try:
        file, line = inspect.getsourcefile(kind), inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return f"{kind.__module__}.{kind.__qualname__}"
    return f"{file}:{line}"


def facet(
    name: str,
    schema: Mapping[str, Any] | bool,
    *,
    aliases: Sequence[str] = (),
    description: str = "",
    list_of: FacetName | None = None,
) -> Facet:
    """Declare a facet: a named piece of data with its JSON Schema (2020-12).

    ``aliases`` are other names that goals may call it by; ``list_of`` names the facet of its items. Raises
    :class:`DeclarationError` for a bad name or a schema that cannot be used.
    """
    place = calling_place()
    if not is_token(name):
        raise DeclarationError(place, f"{name!r} is no facet name: 1 to 128 letters, digits and . _ : -")
    try:
        compile_schema(schema)
    except FlexError as error:
        raise DeclarationError(place, f"facet {name}: {error.message}") from error
    return DeclaredFacet(name, schema, tuple(aliases), description, facet_name(list_of) if list_of else None, place)


def facet_name(named: FacetName) -> str:
    """Return the name of a facet given by name or as a value."""
    return named.name if isinstance(named, Facet) else named


def parameters(consumes: Consumes) -> dict[str, Param]:
    """Read ``{"profile": "company_profile", "tone?": "tone"}``."""
    read: dict[str, Param] = {}
    for written, taken in consumes.items():
        name = written.removesuffix("?")
        read[name] = taken if isinstance(taken, Param) else Param(facet_name(taken), required=name == written)
    return read


def produced(produces: Produces) -> tuple[str, ...]:
    """Read one facet or several."""
    several = (produces,) if isinstance(produces, str | Facet) else produces
    return tuple(facet_name(each) for each in several)


def named(scopes: str | Sequence[str]) -> tuple[str, ...]:
    """Read one scope or several."""
    return (scopes,) if isinstance(scopes, str) else tuple(scopes)


def check_spec(spec: CapabilitySpec, place: str) -> None:
    """Raise :class:`DeclarationError` for what can be seen without knowing the other declarations."""
    name = spec.capability_id
    if not is_token(name) or not is_token(spec.version):
        raise DeclarationError(place, f"{name!r} {spec.version!r}: ids and versions are letters, digits and . _ : -")
    unreadable = [param for param in spec.consumes if not param.isidentifier()]
    if unreadable:
        raise DeclarationError(place, f"{name}: {unreadable[0]!r} is no parameter name")
    strange = [scope for scope in spec.scopes if not is_scope(scope)]
    if strange:
        raise DeclarationError(place, f"{name}: {strange[0]!r} is no scope; one is letters, digits and _ . : / -")
    if spec.effects not in ("none", "idempotent", "once"):
        raise DeclarationError(place, f"{name}: effects are none, idempotent or once, not {spec.effects!r}")
    if not 0 <= spec.quality <= 1 or spec.cost < 0 or spec.latency_ms < 0 or spec.tokens < 0:
        raise DeclarationError(place, f"{name}: quality is 0 to 1; cost, latency_ms and tokens are not negative")
    if spec.batch and "count" in spec.consumes:
        raise DeclarationError(place, f"{name}: a batch capability is given count by the plan; do not consume it")
