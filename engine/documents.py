"""Documents of a run: which versions it holds on to, what is still to come, and what nodes see of them (R1, R4).

A run that lacks documents waits before its first node, like one whose time has not come. The machine only counts: their
texts are in the state it is given (``engine/texts.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from contracts.envelope import document_at
from contracts.wire import resolve_pointer
from engine.signals import DocumentCame
from engine.state import NOTHING, RunState
from engine.turn import Turn
from store.rows import WaitRow

DOCUMENTS: Final = "/context/documents/"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Supply:
    """What a run that is about to be born has of its documents: id → version, what is missing, and the texts."""

    story_id: str
    have: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    texts: Mapping[str, Any] = field(default_factory=dict)

    def waits(self, tenant: str, run_id: str, at_ms: int) -> list[WaitRow]:
        """Return the rows of what is waited for."""
        return [WaitRow(tenant, self.story_id, document_id, run_id, at_ms) for document_id in self.missing]


def take_in(state: RunState, supply: Supply | None) -> None:
    """Give a run that is about to be born its documents."""
    if supply is not None:
        state.ledger.documents, state.ledger.missing = dict(supply.have), sorted(supply.missing)
        state.ledger.lacked = bool(supply.missing)
        state.documents.update(supply.texts)


def came(turn: Turn, signal: DocumentCame) -> None:
    """Note that a document is there; with the last one the run goes on."""
    ledger = turn.state.ledger
    if signal.document_id not in ledger.missing:
        turn.out.answered.append((signal.signal_id, "superseded"))
        return
    turn.out.answered.append((signal.signal_id, "applied"))
    ledger.missing.remove(signal.document_id)
    ledger.documents[signal.document_id] = signal.version
    if ledger.missing:
        return
    if turn.state.started_at is None and turn.state.start_at is None:
        turn.state.started_at = turn.now
    turn.resume("documents")


def shown(state: RunState) -> list[Any]:
    """Return what a bundle's ``documents`` holds: the run's documents in the order in which they were named."""
    held = state.ledger.documents
    if not held:
        return []
    named = dict.fromkeys(state.envelope.context.documents)
    return [dict(state.documents[each]) for each in named if each in held and each in state.documents]


def gone(state: RunState) -> list[str]:
    """Return the documents that the run holds on to and that were deleted since."""
    held = state.ledger.documents
    return sorted(each for each in held if each not in state.documents) if held else []


def bound(state: RunState, pointer: str) -> Any:
    """Return what ``/context/documents/<number or id>…`` names: a text, or what a JSON document says; else NOTHING."""
    place, slash, below = pointer.removeprefix(DOCUMENTS).partition("/")
    document_id = document_at(state.envelope.context, place)
    entry = None if document_id not in state.ledger.documents else state.documents.get(document_id or "")
    return NOTHING if entry is None else value_of(entry, f"{slash}{below}")


def value_of(entry: Mapping[str, Any], below: str) -> Any:
    """Return a document's value: what its JSON says at a pointer, or its text; NOTHING when there is none.

    Half of a JSON document is no value.
    """
    if entry["text"] is None:
        return NOTHING
    if entry["media_type"] != JSON:
        return NOTHING if below else entry["text"]
    if entry["truncated"]:
        return NOTHING
    try:
        return resolve_pointer(orjson.loads(entry["text"]), below)
    except (KeyError, orjson.JSONDecodeError):
        return NOTHING
