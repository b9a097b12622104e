"""The texts of a run's documents, read before the machine hears of them (R4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from engine.shell import Shell
from engine.state import RunState
from store import documents
from store.documents import Key
from store.journal_columns import DOCUMENT
from store.rows import LoadedRun, SignalRow


async def texts_of(shell: Shell, tenant: str, story_id: str, versions: Mapping[str, int]) -> dict[str, Any]:
    """Return the texts of these versions by document, as bundles show them; one that is deleted is not there.

    Together they have ``shell.document_characters`` at most; what is cut off is marked ``truncated``.
    """
    left, found = shell.document_characters, {}
    for document_id in sorted(versions):
        row = await documents.read(shell.database, Key(tenant, story_id, document_id), versions[document_id], left)
        if row is None:
            continue
        left -= len(row.text or "")
        found[document_id] = {
            "document_id": document_id,
            "version": row.version,
            "media_type": row.media_type,
            "text_status": row.text_status,
            "text": row.text,
            "truncated": row.text is not None and len(row.text) < row.characters,
        }
    return found


async def provide(shell: Shell, loaded: LoadedRun) -> None:
    """Read the texts of a run that was just loaded, also of documents that its mail tells of."""
    if loaded.run.ledger_json.find('"documents":{}') >= 0 and not any(row.kind == DOCUMENT for row in loaded.signals):
        return
    versions: dict[str, int] = orjson.loads(loaded.run.ledger_json).get("documents", {})
    versions = {**versions, **_told(loaded.signals)}
    if versions:
        story_id = orjson.loads(loaded.envelope_json)["context"]["story_id"]
        loaded.documents = await texts_of(shell, loaded.run.tenant, story_id, versions)


async def provide_told(shell: Shell, state: RunState, signals: Sequence[SignalRow]) -> None:
    """Read the texts of the documents that these signals tell of, before the machine hears of them."""
    told, story_id = _told(signals), state.envelope.context.story_id
    if told and story_id is not None:
        # All of them again: how much room there is for one depends on the others.
        state.documents.update(await texts_of(shell, state.tenant, story_id, {**state.ledger.documents, **told}))


def _told(signals: Sequence[SignalRow]) -> dict[str, int]:
    payloads = [orjson.loads(row.payload_json) for row in signals if row.kind == DOCUMENT]
    return {payload["document_id"]: payload["version"] for payload in payloads}
