"""``profile.summary``: a company in a few sentences, from what its profile says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capabilities.authoring import capability
from capabilities.copy_facets import COMPANY_PROFILE, COMPANY_SUMMARY


@capability(
    "profile.summary", consumes={"profile": COMPANY_PROFILE}, produces=COMPANY_SUMMARY, quality=0.3, latency_ms=5
)
async def profile_summary(profile: Mapping[str, Any]) -> str:
    """Summarises a company profile in its own words."""
    name = str(profile["name"])
    industry, location = (str(profile.get(key) or "") for key in ("industry", "location"))
    first = name + (f" ({industry})" if industry else "") + (f" is based in {location}." if location else ".")
    said = [str(profile.get(key) or "").strip() for key in ("description", "tagline")]
    for key, lead in (("products", "It offers"), ("values", "It stands for")):
        items = [str(item) for item in profile.get(key) or ()]
        said.append(f"{lead} {', '.join(items)}" if items else "")
    rest = [text if text[-1] in ".!?" else f"{text}." for text in said if text]
    return " ".join([first, *rest])
