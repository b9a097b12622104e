"""The documents that a run needs, looked up when it is accepted: there, waited for, left out, or refused (R1, R4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.envelope import Context, TaskEnvelope
from contracts.errors import EnvelopeInvalid, ErrorItem
from engine.documents import Supply
from engine.shell import Shell
from engine.texts import texts_of
from store import documents


async def supply_of(
    shell: Shell, tenant: str, context: Context, held: Mapping[str, int] | None = None, body: Any = None
) -> Supply | None:
    """Return what a run has of its documents and what it waits for; None: it needs none.

    ``held`` are versions that it holds on to already, ``body`` is what the caller sent. Raises
    ``EnvelopeInvalid``: documents without a story, or missing ones where ``on_missing_doc`` is ``error``.
    """
    if not context.documents:
        return None
    story_id = context.story_id
    if story_id is None:
        message = "Documents are a story's: say which one."
        raise EnvelopeInvalid(errors=[ErrorItem("/context/story_id", "required", message)])
    there = await documents.present(shell.database, tenant, story_id, sorted(set(context.documents)))
    missing = [each for each in dict.fromkeys(context.documents) if each not in there]
    if missing and context.on_missing_doc == "error":
        raise EnvelopeInvalid("The story lacks documents.", errors=[_missing(body, each) for each in missing])
    have = {**there, **{name: version for name, version in (held or {}).items() if name in there}}
    texts = await texts_of(shell, tenant, story_id, have)
    return Supply(story_id, have, () if context.on_missing_doc == "skip" else tuple(sorted(missing)), texts)


def _missing(body: Any, document_id: str) -> ErrorItem:
    """Return the finding at the document in the caller's body, or at the workflow whose flow needs it."""
    context = body.get("context") if isinstance(body, dict) else None
    named = context.get("documents") if isinstance(context, dict) else None
    known = isinstance(named, list) and document_id in named
    pointer = f"/context/documents/{named.index(document_id)}" if known and isinstance(named, list) else "/workflow"
    return ErrorItem(pointer, "document_missing", f"The story has no document {document_id}.")


def without_missing(envelope: TaskEnvelope, supply: Supply | None) -> TaskEnvelope:
    """Return the envelope without documents that are left out: a planner must not count on them.

    A submitted plan names documents by their place, so there they stay and have no value.
    """
    left_out = envelope.context.on_missing_doc == "skip" and envelope.workflow is None and supply is not None
    if not left_out or supply is None or all(each in supply.have for each in envelope.context.documents):
        return envelope
    present = [each for each in envelope.context.documents if each in supply.have]
    return envelope.model_copy(update={"context": envelope.context.model_copy(update={"documents": present})})


def pending(ledger: Mapping[str, Any]) -> list[str] | None:
    """Return the documents that a run waits for, sorted; None: it waits for none."""
    missing = ledger.get("missing") or None
    return None if missing is None else sorted(missing)
