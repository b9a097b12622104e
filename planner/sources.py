"""What the envelope already holds: pointers into it, and which facets are available from it (R3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.envelope import TaskEnvelope, document_at
from contracts.wire import pointer_of, resolve_pointer
from planner.index import CatalogueIndex
from planner.words import norm

OBJECTIVE: Final = "/objective"


@dataclass(frozen=True, slots=True)
class Source:
    """A value of the envelope: its name, its pointer, and whether the value is known before the run."""

    name: str
    pointer: str
    value: Any = None
    known: bool = True
    given: bool = True
    """False for the objective and the instructions: nobody is told that they are unused."""


@dataclass(slots=True)
class Available:
    """Facets at hand by name, sources whose value does not fit the facet they name, and sources that name none."""

    facets: dict[str, Source] = field(default_factory=dict)
    mismatched: dict[str, Source] = field(default_factory=dict)
    given: list[Source] = field(default_factory=list)

    def inputs_named(self, wanted: str) -> list[Source]:
        """Return the inputs whose name is ``wanted`` by norm."""
        inputs = (source for source in self.given if source.pointer.startswith("/inputs/"))
        return [source for source in inputs if norm(source.name) == norm(wanted)]


def sources(envelope: TaskEnvelope) -> Iterator[Source]:
    """Yield every source in order of precedence: inputs first, documents last."""
    for key, value in envelope.inputs.items():
        yield Source(key, pointer_of(["inputs", key]), value, known=value is not UNKNOWN)
    yield Source("objective", OBJECTIVE, envelope.objective, given=False)
    if envelope.special_instructions:
        yield Source("special_instructions", "/special_instructions", list(envelope.special_instructions), given=False)
    for place, bundle in enumerate(envelope.context.bundles):
        yield Source(bundle.type, f"/context/bundles/{place}/payload", bundle.payload)
    for place, document in enumerate(envelope.context.documents):
        yield Source(document, f"/context/documents/{place}", known=False)


def available(envelope: TaskEnvelope, index: CatalogueIndex) -> Available:
    """Return what is at hand: the first source per facet whose value fits it."""
    found = Available()
    for source in sources(envelope):
        if source.given:
            found.given.append(source)
        for facet in index.named(source.name):
            if facet in found.facets:
                continue
            if source.known and not index.accepts(facet, source.value):
                found.mismatched.setdefault(facet, source)
            else:
                found.facets[facet] = source
    for facet in found.facets:
        found.mismatched.pop(facet, None)
    return found


class Unknown:
    """Stands for an input of a child run, whose value is only there once it runs."""


UNKNOWN: Final = Unknown()


_WHOLE: Final = {"inputs", "constraints", "metadata"}


def resolve(envelope: TaskEnvelope, pointer: str) -> Any:
    """Return what an envelope pointer names; raises ``KeyError`` when nothing is there.

    At and below an input that only the run will know, and a document, this is :data:`UNKNOWN`.
    """
    head, _, rest = pointer[1:].partition("/")
    if head == "inputs" and _is_unknown(envelope, rest.partition("/")[0]):
        return UNKNOWN
    if head == "context" and _is_document(envelope, rest):
        return UNKNOWN
    below = f"/{rest}" if rest or pointer.endswith("/") else ""
    if head in _WHOLE:
        return resolve_pointer(getattr(envelope, head), below)
    if head == "objective" and not below:
        return envelope.objective
    if head == "special_instructions":
        return resolve_pointer(list(envelope.special_instructions), below)
    return resolve_pointer(envelope.model_dump(mode="json"), pointer)


def _is_document(envelope: TaskEnvelope, below: str) -> bool:
    """Say whether a pointer below ``/context`` leads to a document or into one: its id stands there, not its value."""
    name, _, rest = below.partition("/")
    return name == "documents" and document_at(envelope.context, rest.partition("/")[0]) is not None


def _is_unknown(envelope: TaskEnvelope, token: str) -> bool:
    return envelope.inputs.get(token.replace("~1", "/").replace("~0", "~")) is UNKNOWN
