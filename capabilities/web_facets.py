"""What requests are made of and what they bring back."""

from __future__ import annotations

from typing import Final

from capabilities.declarations import facet

REQUEST_URL: Final = facet("request_url", {"type": "string"}, description="An http or https address.")
REQUEST_BODY: Final = facet(
    "request_body",
    {"type": ["object", "array"], "properties": {"data": {}}, "items": {"properties": {"data": {}}}},
    description="What is sent, as JSON.",
)
HTTP_RESPONSE: Final = facet(
    "http_response",
    {
        "type": "object",
        "required": ["status", "content_type", "text"],
        "properties": {
            "status": {"type": "integer"},
            "content_type": {"type": "string"},
            "text": {"type": "string"},
            "json": {},
        },
    },
    description="The answer to a request: status, content type, text, and its JSON if it is JSON.",
)

FACETS: Final = (REQUEST_URL, REQUEST_BODY, HTTP_RESPONSE)
