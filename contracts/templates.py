"""Templates: flows with holes, what may be put into them, and what they look like in a gallery (W3).

A placeholder is a whole JSON value, ``{"$param": "/pointer"}``: nothing is ever pasted into text that is executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from contracts.flows import FlowDocument, Name
from contracts.wire import Wire, pointer_of, resolve_pointer

PARAM: Final = "$param"
_GONE: Final = object()
"""Stands for a placeholder whose parameter was not given: the member or item that it is goes away."""

Tag = Annotated[str, Field(min_length=1, max_length=40)]


class TemplateDocument(Wire):
    """A template as it is stored. ``example`` are the parameters of an example run; ``flow`` holds the placeholders.

    ``parameters`` is a JSON Schema of an object; ``default`` of a property is what stands in for one not given.
    """

    model_config = ConfigDict(extra="allow")

    name: Name
    description: Annotated[str, Field(max_length=4_000)] = ""
    category: Annotated[str, Field(max_length=80)] = ""
    tags: Annotated[list[Tag], Field(max_length=20)] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    example: dict[str, Any] = Field(default_factory=dict)
    flow: dict[str, Any]


def with_defaults(schema: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with the defaults of those that were not given."""
    properties = schema.get("properties")
    found = dict(params)
    for name, about in properties.items() if isinstance(properties, Mapping) else ():
        if name not in found and isinstance(about, Mapping) and "default" in about:
            found[name] = about["default"]
    return found


def fill(flow: Any, params: Mapping[str, Any]) -> Any:
    """Return a flow's document with its placeholders filled in.

    A placeholder without a value takes its own ``default``; without one its member or item is left out.
    """
    filled = _fill(flow, params)
    return None if filled is _GONE else filled


def _fill(value: Any, params: Mapping[str, Any]) -> Any:
    if _is_placeholder(value):
        try:
            return resolve_pointer(params, value[PARAM])
        except KeyError:
            return value.get("default", _GONE)
    if isinstance(value, Mapping):
        members = {name: _fill(each, params) for name, each in value.items()}
        return {name: each for name, each in members.items() if each is not _GONE}
    if isinstance(value, list):
        return [each for each in (_fill(item, params) for item in value) if each is not _GONE]
    return value


def placeholders(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the pointer of each placeholder, and the one that it names."""
    if _is_placeholder(value):
        yield pointer_of(at), value[PARAM]
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from placeholders(each, (*at, name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from placeholders(each, (*at, place))


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get(PARAM), str) and value.keys() <= {PARAM, "default"}


__all__ = ["PARAM", "FlowDocument", "TemplateDocument", "fill", "placeholders", "with_defaults"]
