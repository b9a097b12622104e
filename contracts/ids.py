"""Identifiers: how they are made and which ones are taken from outside (R6).

An id is an opaque string; ours are a prefix and 26 characters of Crockford base 32 that sort by time (ULID layout).
"""

from __future__ import annotations

import re
from typing import Final

RUN: Final = "run"
PROMPT: Final = "prm"
DECISION: Final = "dec"
WORKER: Final = "wrk"
CORRELATION: Final = "cid"
AUDIT: Final = "aud"
NOTIFICATION: Final = "ntf"

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_TOKEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_NODE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}(\[[0-9]{1,6}\])*")
_HEADER: Final = re.compile(r"[\x21-\x7e]{1,200}")


def ulid(milliseconds: int, randomness: int) -> str:
    """Return 26 characters: 48 bits of time, 80 of randomness, big end first."""
    value = (milliseconds & ((1 << 48) - 1)) << 80 | (randomness & ((1 << 80) - 1))
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def is_token(text: str) -> bool:
    """Say whether a caller's id (run, prompt, capability, flow, policy) has the accepted form."""
    return _TOKEN.fullmatch(text) is not None


def is_node_id(text: str) -> bool:
    """Say whether a node id has the accepted form; map items end in ``[0]``."""
    return _NODE.fullmatch(text) is not None


def is_header_token(text: str) -> bool:
    """Say whether a header value (idempotency key, correlation id) is 1 to 200 visible ASCII characters."""
    return _HEADER.fullmatch(text) is not None
