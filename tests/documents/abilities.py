"""Capabilities that show what a run's documents look like from inside."""

from typing import Any

from capabilities.authoring import capability
from capabilities.declarations import facet
from contracts.capability import Bundle

seen = facet("documents_seen", {"type": "array", "items": {"type": "object", "properties": {"document_id": {}}}})
style = facet("style_guide", {"type": "string"}, description="How to write")
rates = facet("rate_card", {"type": "object", "required": ["day"], "properties": {"day": {"type": "integer"}}})
line = facet("styled_line", {"type": "string"}, description="A line in the house's style")
price = facet("day_price", {"type": "integer"}, description="What a day costs")


@capability("documents.seen", produces=seen)
async def shows(bundle: Bundle) -> Any:
    """Gives back the documents it is given."""
    return list(bundle.documents)


@capability("line.styled", consumes={"style": style}, produces=line)
async def styled(style: str) -> str:
    """Writes by the book."""
    return f"By {style}"


@capability("price.day", consumes={"card": rates}, produces=price)
async def day(card: dict[str, int]) -> int:
    """Reads the rate card."""
    return card["day"]
