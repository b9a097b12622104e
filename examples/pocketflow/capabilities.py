"""Offers the flow to flex: what it takes, what it gives, and which key of `shared` is the result."""

import sys
from pathlib import Path

from capabilities import facet
from capabilities.pocketflow import from_pocketflow

# flex loads this file by its path, so Python does not look next to it by itself.
sys.path.append(str(Path(__file__).parent))

from flow import flow

ARTICLE = facet("article_text", {"type": "string", "minLength": 1}, description="A text for people to read.")
REPORT = facet(
    "reading_report",
    {
        "type": "object",
        "required": ["words", "sentences", "minutes", "verdict", "longest_sentence"],
        "properties": {
            "words": {"type": "integer", "minimum": 0},
            "sentences": {"type": "integer", "minimum": 0},
            "minutes": {"type": "number", "minimum": 0},
            "verdict": {"enum": ["easy", "fair", "hard", "empty"]},
            "longest_sentence": {"type": "string"},
        },
    },
    aliases=("reading",),
    description="How long a text is, and how easily it reads.",
)

reading = from_pocketflow(
    flow,
    capability_id="text.reading",
    consumes={"text": ARTICLE},
    produces=REPORT,
    result="report",
    description="Measures how long a text is and how easily it reads.",
)
