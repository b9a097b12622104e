"""A capability that requires a scope, and a free one that takes longer to the same end."""

from typing import Any

from capabilities.authoring import capability
from capabilities.declarations import facet
from contracts.capability import CapabilityError

entry = facet("plans_entry", {"type": "string"}, description="An entry in the books")
booked = facet("plans_booked", {"type": "string"}, description="What was booked")
open_books = [True]
"""whether entries can be booked; a test closes and opens them"""


@capability("books.enter", consumes={"entry": entry}, produces=booked, scopes=("books:write",), quality=1.0)
async def enter(entry: str) -> Any:
    """Books an entry."""
    if not open_books[0]:
        raise CapabilityError("closed", "The books are closed.", retryable=False)
    return f"booked {entry}"


@capability("books.draft", consumes={"entry": entry}, produces=booked, cost=5.0)
async def draft(entry: str) -> Any:
    """Drafts an entry, without touching the books."""
    return f"drafted {entry}"
