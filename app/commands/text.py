"""Text that is safe to print: no control characters of strangers, durations and JSON for people."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

# C0 and C1 controls except newline and tab, and the marks that turn the direction of text around: what a model or a
# document says must not move the cursor, change colours or disguise a question (terminal escape injection).
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(value: Any) -> str:
    r"""Return the text with every unsafe character shown as ``\u001b`` and the like (as JSON would)."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(value))


def line(value: Any) -> str:
    """Return the text on one line."""
    return " ".join(clean(value).split())


def pretty(value: Any) -> str:
    """Return a JSON value indented, safe to print."""
    return clean(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def compact(value: Any, limit: int = 200) -> str:
    """Return a JSON value on one line, shortened."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def duration(milliseconds: float) -> str:
    """Return ``12 ms``, ``1.2 s``, ``3 min 4 s`` or ``2 h 5 min``."""
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
