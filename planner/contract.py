"""The caller's contract as a schema of the whole answer, and its places."""

from __future__ import annotations

from typing import Any, Final

from contracts.capability import Catalogue
from contracts.envelope import FacetsContract, JsonSchemaContract, TaskEnvelope
from contracts.errors import ErrorItem
from contracts.wire import pointer_of
from planner.schemas import follow, properties

FACET_MARK: Final = "x-flex-facet"
READS_MARK: Final = "x-flex-from"


def unknown_facets(envelope: TaskEnvelope, catalogue: Catalogue) -> list[ErrorItem]:
    """Return one item per facet that the contract names and the catalogue does not have (422 ``unknown_facet``)."""
    known = {facet.name for facet in catalogue.facets}
    contract = envelope.contract
    if isinstance(contract, FacetsContract):
        named: list[tuple[str, Any]] = [
            (f"/output_contract/facets/{n}", name) for n, name in enumerate(contract.facets)
        ]
    elif isinstance(contract, JsonSchemaContract):
        named = _marked(contract.schema_)
    else:
        named = []
    return [
        ErrorItem(pointer, "unknown_facet", f"There is no facet {name!r}.")
        for pointer, name in named
        if not isinstance(name, str) or name not in known
    ]


def _marked(root: Any) -> list[tuple[str, Any]]:
    """Return (pointer, name) of every facet named by a mark at the root or at a property of it."""
    schema = follow(root, root)
    below = ((pointer_of(["properties", name]), follow(at, root)) for name, at in properties(schema).items())
    places = [("", schema), *below]
    found: list[tuple[str, Any]] = []
    for pointer, place in places:
        if not isinstance(place, dict):
            continue
        if FACET_MARK in place:
            found.append((f"/output_contract/schema{pointer}/{FACET_MARK}", place[FACET_MARK]))
        reads = place.get(READS_MARK, [])
        for number, name in enumerate(reads if isinstance(reads, list) else [reads]):
            found.append((f"/output_contract/schema{pointer}/{READS_MARK}/{number}", name))
    return found
