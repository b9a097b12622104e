"""``json.transform``: a JSONata expression applied to an object or a list.

What it gives is whatever its node's contract says, so it produces no facet and only plans that people write use it.
"""

from __future__ import annotations

from typing import Any

from capabilities.authoring import capability
from capabilities.data_facets import JSONATA, TRANSFORM_INPUT
from contracts.capability import CapabilityError
from contracts.expressions import ExpressionRefused, compile_jsonata


def _refused(value: Any) -> tuple[str, str] | None:
    try:
        compile_jsonata(value if isinstance(value, str) else "")
    except ExpressionRefused as error:
        return "bad_expression", str(error)
    return None


@capability(
    "json.transform",
    consumes={"expression": JSONATA, "value": TRANSFORM_INPUT},
    quality=0.6,
    latency_ms=10,
    literals={"expression": _refused},
)
def json_transform(expression: str, value: Any) -> Any:
    """Applies a JSONata expression to a value; what the expression gives is the output."""
    try:
        return compile_jsonata(expression).apply(value)
    except ExpressionRefused as error:
        raise CapabilityError("transform_failed", str(error), retryable=False) from error
