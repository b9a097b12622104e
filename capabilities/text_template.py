"""``text.template``: a template from the plan, filled in (R6: what comes from outside is never executed)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capabilities.authoring import capability
from capabilities.data_facets import RENDERED_TEXT, TEMPLATE_VALUES, TEXT_TEMPLATE
from capabilities.templates import TemplateRefused, compile_template, render
from contracts.capability import CapabilityError


def _refused(value: Any) -> tuple[str, str] | None:
    try:
        compile_template(value if isinstance(value, str) else "")
    except TemplateRefused as error:
        return "template_refused", str(error)
    return None


@capability(
    "text.template",
    consumes={"template": TEXT_TEMPLATE, "values?": TEMPLATE_VALUES},
    produces=RENDERED_TEXT,
    quality=0.5,
    latency_ms=5,
    literals={"template": _refused},
)
def text_template(template: str, values: Mapping[str, Any] | None = None) -> str:
    """Fills in a template that may show values, choose with if and repeat with for."""
    try:
        return render(template, values or {})
    except TemplateRefused as error:
        raise CapabilityError("template_refused", str(error), retryable=False) from error
