"""How modelled JSON is read: strict types, camelCase accepted, unknown fields refused with their pointer (F2)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

import orjson
from pydantic import AliasGenerator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from contracts.errors import BadJson, ErrorItem, FlexError

M = TypeVar("M", bound=BaseModel)
MAX_ERRORS: Final = 50
_ENCODER_DEPTH: Final = 254
"""How deep orjson writes."""
MAX_DEPTH: Final = 128
"""How deep envelopes, outputs and answers may be nested: half of what the encoder takes, for the frames around them."""


class Wire(BaseModel):
    """Base of every model read from outside: frozen, strict, ``extra`` forbidden, camelCase taken as snake_case."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=AliasGenerator(serialization_alias=lambda name: name.rstrip("_")),
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _fold_case(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        spellings = _spellings(cls)
        if spellings.keys().isdisjoint(data):
            return data
        folded: dict[str, Any] = {}
        for key, value in data.items():
            name = spellings.get(key, key)
            if name in folded:
                raise PydanticCustomError(
                    "duplicate_field",
                    "Given twice; keep one of {pair}.",
                    {"pair": f"{name}, {to_camel(name)}", "key": name},
                )
            folded[str(name)] = value
        return folded


@lru_cache(maxsize=256)
def _spellings(model: type[BaseModel]) -> dict[str, str]:
    """Map every other accepted spelling of a field to the field's name."""
    table: dict[str, str] = {}
    for name in model.model_fields:
        plain = name.rstrip("_")
        for other in (plain, to_camel(plain)):
            if other != name:
                table[other] = name
    return table


def read_json(body: bytes) -> Any:
    """Parse bytes as JSON; NaN, bad UTF-8, depth over 1,000 and NUL characters are refused (``bad_json``)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"The body is not JSON: {error}") from error
    if b"\\u0000" in body and has_nul(value):
        raise BadJson("NUL characters are refused: no database stores them.")
    return value


def has_nul(value: Any) -> bool:
    """Say whether any string or key inside a JSON value holds a NUL character."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if "\x00" in item:
                return True
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False


def deep_place(value: Any) -> str | None:
    """Return the pointer of a value below ``MAX_DEPTH`` levels, None when nothing is nested so deeply."""
    try:
        # Encoding finds out at the speed of C: only what could be too deep is wrapped, only a refusal looks further.
        encoded = orjson.dumps(value)
        if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH:
            orjson.dumps(_wrapped(value))
    except TypeError:
        return _find_deep(value)
    return None


def _wrapped(value: Any) -> Any:
    """Return a value so deep inside of lists that the encoder refuses it if it has more levels than allowed."""
    for _ in range(_ENCODER_DEPTH - MAX_DEPTH):
        value = [value]
    return value


def _find_deep(value: Any) -> str | None:
    stack: list[tuple[Any, tuple[str | int, ...]]] = [(value, ())]
    while stack:
        item, path = stack.pop()
        if not isinstance(item, dict | list):
            continue
        if len(path) >= MAX_DEPTH:
            return pointer_of(path)
        children = item.items() if isinstance(item, dict) else enumerate(item)
        stack.extend((child, (*path, key)) for key, child in children if isinstance(child, dict | list))
    return None


def read_model(model: type[M], data: Any, refusal: type[FlexError], at: str = "") -> M:
    """Read ``data`` as ``model`` or raise ``refusal`` with one item per broken place.

    ``at`` is the pointer of ``data`` inside the document that the caller sent.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)[:MAX_ERRORS]
        raise refusal(errors=[_item(detail, model, at) for detail in details]) from None


def pointer_of(parts: Iterable[str | int]) -> str:
    """Join path parts into a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def resolve_pointer(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) names inside a value; raise ``KeyError`` when nothing is there."""
    if pointer == "":
        return value
    if not pointer.startswith("/"):
        raise KeyError(pointer)
    for raw in pointer[1:].split("/"):
        token = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isascii() and token.isdigit() and int(token) < len(value):
            value = value[int(token)]
        else:
            raise KeyError(pointer)
    return value


_CODES: Final = {
    "missing": "required",
    "duplicate_field": "duplicate_field",
    "extra_forbidden": "unknown_field",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "too_short": "too_short",
    "too_long": "too_long",
    "literal_error": "not_allowed",
    "union_tag_invalid": "not_allowed",
}


def _item(detail: ErrorDetails, model: type[BaseModel], at: str) -> ErrorItem:
    *above, last = detail["loc"] or ("",)
    unknown = detail["type"] == "extra_forbidden"
    modelled = above if unknown or not detail["loc"] else detail["loc"]
    parts = [str(part).rstrip("_") if isinstance(part, str) else part for part in modelled if not _is_tag(part)]
    code = _CODES.get(detail["type"], detail["type"])
    message = detail["msg"]
    if unknown:
        # The caller's own key, whatever it looks like.
        parts.append(last)
        message = f"Unknown{_suggestion(model, detail['loc'])}"
    if "key" in detail.get("ctx", {}):
        # An error of the whole model that knows which of its fields to change.
        parts.append(detail["ctx"]["key"])
    return ErrorItem(at + pointer_of(parts), code, message)


def _is_tag(part: str | int) -> bool:
    """Say whether a location part is pydantic's own (a union arm, a function wrapper), not the caller's."""
    return isinstance(part, str) and (part.endswith((")", "]")) or part.startswith("tagged-"))


def _suggestion(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    names = sorted(_all_names(model))
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"; {near[0]}?" if near else " field."


@lru_cache(maxsize=64)
def _all_names(model: type[BaseModel]) -> frozenset[str]:
    names: set[str] = set()
    stack: list[type[BaseModel]] = [model]
    seen: set[type[BaseModel]] = set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        for name, field in current.model_fields.items():
            names.add(name.rstrip("_"))
            stack.extend(_models_in(field.annotation))
    return frozenset(names)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
