"""Revisions over HTTP (RFC 9110): the ETag that was read comes back as ``If-Match``; nobody writes over unseen work."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from contracts.errors import BadHeader, ErrorItem, RevisionRequired
from routes.spec import Param

_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,15})"')
IF_MATCH: Final = Param("If-Match", "header", "The ETag as you read it.", {"type": "string"}, required=True)
TAG: Final = {"ETag": "The revision; send it as `If-Match`."}


def revision_of(request: Request) -> int:
    """Return the revision in ``If-Match``; raise ``RevisionRequired`` (428) without one."""
    sent = request.headers.getlist("if-match")
    if not sent:
        raise RevisionRequired
    found = _ETAG.fullmatch(sent[0].strip())
    if len(sent) > 1 or found is None:
        message = "It is the ETag that you read, in quotes."
        raise BadHeader(f"If-Match: {message}", errors=[ErrorItem("/If-Match", "bad_header", message)])
    return int(found[1])
