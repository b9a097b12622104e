"""What copy is written from, and what comes out (wire §5a, §6 example A)."""

from __future__ import annotations

from typing import Any, Final

from capabilities.declarations import facet

_STRING: Final[dict[str, Any]] = {"type": "string"}
_STRINGS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}

COMPANY_PROFILE: Final = facet(
    "company_profile",
    {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": _STRING,
            "tagline": _STRING,
            "description": _STRING,
            "industry": _STRING,
            "location": _STRING,
            "website": _STRING,
            "products": _STRINGS,
            "values": _STRINGS,
        },
    },
    description="Who a company is: its name, and what it likes to say about itself.",
)
CHANNEL: Final = facet("channel", _STRING, description="Where a text is published, such as linkedin or email.")
AUDIENCE: Final = facet("audience", _STRING, description="Whom a text is for.")
TONE: Final = facet("tone", _STRING, description="How a text should sound, such as warm or formal.")

_VARIANT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["headline", "body", "callToAction"],
    "properties": {"headline": _STRING, "body": _STRING, "callToAction": _STRING},
    "additionalProperties": False,
}
COPY_VARIANT: Final = facet("copy_variant", _VARIANT, description="One post: headline, body and call to action.")
COPY_VARIANTS: Final = facet(
    "copy_variants",
    {"type": "array", "items": _VARIANT},
    aliases=("variants",),
    list_of=COPY_VARIANT,
    description="Variants of a post, each with headline, body and call to action.",
)
COMPANY_SUMMARY: Final = facet(
    "company_summary", _STRING, aliases=("summary",), description="A company in a few sentences."
)

FACETS: Final = (
    COMPANY_PROFILE, CHANNEL, AUDIENCE, TONE, COPY_VARIANT, COPY_VARIANTS, COMPANY_SUMMARY,
)  # fmt: skip
