"""The JSON Schema of the answer that each form of output contract asks for (F3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.envelope import FacetsContract, FreeformContract, OutputContract

FREEFORM_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1}


def answer_schema(contract: OutputContract, facets: Mapping[str, Any]) -> Any:
    """Return the schema; ``facets`` maps facet name → schema (every name must be known by now)."""
    if isinstance(contract, FreeformContract):
        return FREEFORM_SCHEMA
    if isinstance(contract, FacetsContract):
        properties = {name: facets[name] for name in contract.facets}
        return {"type": "object", "required": list(contract.facets), "properties": properties}
    return contract.schema_
