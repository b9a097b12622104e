"""What every log line of an attempt says besides itself: which run, node, capability and attempt it belongs to (F14).

One variable for all of it, because it is set for every attempt and read only when somebody logs.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

_NOTHING: Final[Mapping[str, Any]] = {}
UNDER_WAY: Final[ContextVar[Mapping[str, Any]]] = ContextVar("flex_under_way", default=_NOTHING)
"""The attempt of this task, or of the thread that works for it."""


def merge_under_way(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add what is under way to a line (a processor of structlog); what the line says itself stays."""
    for name, value in UNDER_WAY.get().items():
        event.setdefault(name, value)
    return event
