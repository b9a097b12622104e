"""A capability that its owner registers while the service runs: the declaration, read and checked (F15).

Everything that can be seen without knowing the other declarations is checked here; contradictions with them are
:class:`contracts.errors.Conflict` and are found by the directory (``capabilities/directory.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

import orjson
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from contracts.capability import CapabilitySpec, Facet, Param
from contracts.errors import ErrorItem, RegistrationInvalid, Unsupported
from contracts.ids import is_token
from contracts.schema import SchemaRefused, compile_schema
from contracts.scopes import Scope
from contracts.wire import Wire, pointer_of, read_model

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Id = Annotated[str, Field(min_length=1, max_length=128)]
_Description = Annotated[str, Field(max_length=2_000)]
_COUNT: Final = "count"


def _token(value: str) -> str:
    if not is_token(value):
        raise PydanticCustomError(
            "bad_id", "Ids are 1 to 128 letters, digits and . _ : - and start with a letter or digit."
        )
    return value


class HttpAddress(Wire):
    """Where a call is sent: an http or https address without user name, password and fragment."""

    type: Literal["http"]
    url: Annotated[str, Field(min_length=8, max_length=2_000)]

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = _split(value)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise PydanticCustomError(
                "bad_url", "An address is http:// or https://, a host, and perhaps port and path."
            )
        if parts.username is not None or parts.fragment:
            raise PydanticCustomError("bad_url", "An address has no user name, no password and no fragment.")
        return value


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address; None when it has none or a port that is no port."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


class DeclaredParam(Wire):
    """A parameter: the facet it takes and whether a call is impossible without it."""

    facet: _Id
    required: bool = True


class FacetDeclaration(Wire):
    """A facet that the registration brings along; the same one again needs the same schema."""

    name: _Id
    schema_: dict[str, Any] | bool
    aliases: list[_Name] = Field(default_factory=list, max_length=20)
    description: _Description = ""
    list_of: _Id | None = None

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return _token(value)

    def as_facet(self) -> Facet:
        """Return the facet."""
        return Facet(self.name, self.schema_, tuple(self.aliases), self.description, self.list_of)


class Registration(Wire):
    """What is posted to ``/api/v1/capabilities``. A version never changes: something else is another version.

    Without a heartbeat for ``heartbeat_seconds`` the capability is inactive. ``timeout_seconds`` bounds one call.
    """

    capability_id: _Id
    version: _Id = "1.0.0"
    description: _Description = ""
    address: HttpAddress
    facets: list[FacetDeclaration] = Field(default_factory=list, max_length=50)
    consumes: dict[_Name, DeclaredParam] = Field(default_factory=dict, max_length=50)
    produces: list[_Id] = Field(default_factory=list, max_length=50)
    effects: Literal["none", "idempotent", "once"] = "none"
    cost: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    latency_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 1_000
    quality: Annotated[float, Field(ge=0, le=1)] = 0.5
    batch: bool = False
    heartbeat_seconds: Annotated[int, Field(ge=5, le=3_600)] = 30
    timeout_seconds: Annotated[float, Field(gt=0, le=3_600)] = 30.0
    scopes: list[Scope] = Field(default_factory=list, max_length=20)
    """what a caller must have been granted for its runs to call it"""

    @field_validator("capability_id", "version")
    @classmethod
    def _tokens(cls, value: str) -> str:
        return _token(value)

    def spec(self) -> CapabilitySpec:
        """Return what the planner gets to know; a call leaves the process."""
        return CapabilitySpec(
            self.capability_id,
            self.version,
            self.description,
            consumes={name: Param(taken.facet, taken.required) for name, taken in self.consumes.items()},
            produces=tuple(self.produces),
            effects=self.effects,
            cost=self.cost,
            latency_ms=self.latency_ms,
            quality=self.quality,
            batch=self.batch,
            in_process=False,
            scopes=tuple(self.scopes),
        )

    def canonical(self) -> str:
        """Return the declaration as JSON text; equal declarations give equal text."""
        # Without scopes it reads as it did before there were any: a version never changes.
        shown = self.model_dump(mode="json", exclude=None if self.scopes else {"scopes"})
        return orjson.dumps(shown, option=orjson.OPT_SORT_KEYS).decode()


def read_registration(body: Any) -> Registration:
    """Return the declaration of a JSON body.

    Raises ``RegistrationInvalid`` (shape, names), ``Unsupported`` (an address that is not http yet), ``SchemaRefused``
    (a facet's schema); every item points into the body.
    """
    address = body.get("address") if isinstance(body, Mapping) else None
    if isinstance(address, Mapping) and address.get("type") == "mcp":
        item = ErrorItem("/address/type", "unsupported", "Capabilities behind MCP are not supported yet; use http.")
        raise Unsupported(item.message, errors=[item])
    read = read_model(Registration, body, RegistrationInvalid)
    problems = list(_problems(read))
    if problems:
        raise RegistrationInvalid(errors=problems)
    _compile(read)
    return read


@lru_cache(maxsize=2_048)
def stored_registration(text: str) -> Registration:
    """Return the declaration of a text that :meth:`Registration.canonical` made; shared, so nobody changes it.

    Raises ``RegistrationInvalid`` for one that this version of the service does not take any more.
    """
    return read_model(Registration, orjson.loads(text), RegistrationInvalid)


def _problems(read: Registration) -> Iterator[ErrorItem]:
    for name in read.consumes:
        if not name.isidentifier():
            yield ErrorItem(pointer_of(["consumes", name]), "bad_name", "A parameter is letters, digits and _.")
    if read.batch and _COUNT in read.consumes:
        message = "A batch capability is given count by the plan; do not consume it."
        yield ErrorItem(f"/consumes/{_COUNT}", "not_allowed", message)
    seen: set[str] = set()
    for place, facet in enumerate(read.facets):
        if facet.name in seen:
            yield ErrorItem(f"/facets/{place}/name", "given_twice", f"The facet {facet.name} is declared twice.")
        seen.add(facet.name)
    for place, name in enumerate(read.produces):
        if name in read.produces[:place]:
            yield ErrorItem(f"/produces/{place}", "given_twice", f"{name} is listed twice.")


def _compile(read: Registration) -> None:
    """Compile every facet's schema, so that one that cannot be used is refused before it is stored."""
    problems: list[ErrorItem] = []
    for place, facet in enumerate(read.facets):
        try:
            compile_schema(facet.schema_)
        except SchemaRefused as refused:
            at = f"/facets/{place}/schema"
            problems += [replace(item, pointer=at + item.pointer) for item in refused.errors]
    if problems:
        raise SchemaRefused("A facet's schema cannot be used.", errors=problems)
