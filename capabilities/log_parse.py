"""``log.parse``: what ``git log`` printed → change records (wire §6 B).

Reads the default format (with decorations, merges, ``--stat``, ``--graph``), ``--oneline``, and bare lists of subjects.
Subjects are read as Conventional Commits 1.0.0; one that is not is of type ``other``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from capabilities.authoring import capability
from capabilities.release_facets import CHANGE_RECORDS, LOG_TEXT
from contracts.capability import CapabilityError

MAX_RECORDS: Final = 20_000
MAX_LINE: Final = 2_000
MAX_SUBJECT: Final = 500
MAX_BODY: Final = 4_000

_GRAPH: Final = re.compile(r"^[*|\\/_ .-]*(?=commit [0-9a-f]{7,64}\b|[0-9a-f]{7,64}(?: |$))|^(?:[*|\\/] ?)+")
_COMMIT: Final = re.compile(r"commit (?P<hash>[0-9a-f]{7,64})(?: \(.*\))?(?: [0-9a-f]{7,64})*\s*$")
_HEADER: Final = re.compile(r"(?P<name>Author|AuthorDate|Date|Commit|CommitDate|Merge|Notes):\s*(?P<value>.*)$")
_ONELINE: Final = re.compile(r"(?P<hash>[0-9a-f]{7,64})\s+(?P<subject>\S.*)$")
_DECORATION: Final = re.compile(r"^\((?:HEAD|tag: |origin/|refs/|[\w./-]+(?:, |\)))[^()]*\)?\s+")
_BULLET: Final = re.compile(r"^\s*(?:[-*+•]|\d{1,4}[.)])\s+")
_BREAKING: Final = re.compile(r"^BREAKING[ -]CHANGE\s*:", re.MULTILINE)
_CONVENTIONAL: Final = re.compile(
    r"(?P<type>[A-Za-z][A-Za-z-]{1,20})(?:\((?P<scope>[^()]{0,100})\))?(?P<bang>!)?:\s+(?P<subject>\S.*)$"
)
TYPES: Final = {
    "feat": "feat", "feature": "feat", "fix": "fix", "bugfix": "fix", "hotfix": "fix", "perf": "perf",
    "security": "security", "sec": "security", "docs": "docs", "doc": "docs", "refactor": "refactor", "style": "style",
    "test": "test", "tests": "test", "build": "build", "deps": "build", "ci": "ci", "chore": "chore",
    "revert": "revert", "deprecate": "deprecate", "deprecated": "deprecate", "remove": "remove", "removed": "remove",
}  # fmt: skip
"""How a commit's prefix is spelled → the type it gets."""


@capability("log.parse", consumes={"log": LOG_TEXT}, produces=CHANGE_RECORDS, quality=0.8, latency_ms=10)
def log_parse(log: str) -> list[dict[str, Any]]:
    """Reads commits out of what git log printed."""
    # Clipped, so that no expression below has more than a screenful to go back and forth in.
    lines = [_GRAPH.sub("", line[:MAX_LINE], count=1) for line in log.replace("\x00", "").splitlines()]
    entries = _default_format(lines) if any(_COMMIT.match(line) for line in lines) else _list_format(lines)
    records: list[dict[str, Any]] = []
    for entry in entries:
        if len(records) == MAX_RECORDS:
            raise CapabilityError("log_too_long", f"The log has more than {MAX_RECORDS} commits.", retryable=False)
        records.append(_record(entry))
    return records


def _default_format(lines: list[str]) -> Iterator[dict[str, str]]:
    """Yield one entry per ``commit …`` line: headers, then a message that is indented by four spaces."""
    entry: dict[str, str] = {}
    message: list[str] = []
    for line in lines:
        start = _COMMIT.match(line)
        if start is not None:
            if entry:
                yield _with_message(entry, message)
            entry, message = {"hash": start["hash"]}, []
        elif not entry:
            continue
        elif line.startswith("    "):
            message.append(line.strip())
        elif not line.strip():
            message.append("")
        else:
            _read_header(entry, line)
    if entry:
        yield _with_message(entry, message)


def _read_header(entry: dict[str, str], line: str) -> None:
    """Note author, date and whether it is a merge; statistics and patches are passed over."""
    header = _HEADER.match(line)
    if header is None:
        return
    name, value = header["name"], header["value"].strip()
    if name == "Author":
        entry.setdefault("author", value.partition("<")[0].strip())
    elif name in ("Date", "AuthorDate"):
        entry.setdefault("date", value)
    elif name == "Merge":
        entry["merge"] = value


def _with_message(entry: dict[str, str], message: list[str]) -> dict[str, str]:
    text = "\n".join(message).strip()
    subject, _, body = text.partition("\n")
    return {**entry, "subject": subject.strip(), "body": body.strip()}


def _list_format(lines: list[str]) -> Iterator[dict[str, str]]:
    """Yield one entry per line that says something: ``hash subject``, a bullet, or a bare subject."""
    for line in lines:
        found = _ONELINE.match(line.strip())
        if found is not None:
            yield {"hash": found["hash"], "subject": _DECORATION.sub("", found["subject"], count=1).strip()}
            continue
        subject = _BULLET.sub("", line, count=1).strip()
        if subject:
            yield {"subject": subject}


def _record(entry: dict[str, str]) -> dict[str, Any]:
    """Return the record of an entry; keys that nothing is known for are left out."""
    subject, body = entry["subject"], entry.get("body", "")
    kind, scope, bang = "other", "", False
    found = _CONVENTIONAL.match(subject)
    if found is not None and (found["type"].lower() in TYPES or found["scope"] is not None or found["bang"]):
        kind = TYPES.get(found["type"].lower(), found["type"].lower())
        scope, bang, subject = (found["scope"] or "").strip(), bool(found["bang"]), found["subject"]
    elif "merge" in entry or subject.startswith(("Merge branch", "Merge pull request", "Merge remote", "Merge tag")):
        kind = "merge"
    elif subject.startswith('Revert "'):
        kind = "revert"
    known = {"hash": entry.get("hash", ""), "scope": scope, "body": body[:MAX_BODY]}
    known.update({name: entry.get(name, "") for name in ("author", "date")})
    breaking = bang or _BREAKING.search(body) is not None
    record = {"type": kind, "subject": subject.strip()[:MAX_SUBJECT] or "(no subject)", "breaking": breaking}
    return {**record, **{name: value for name, value in known.items() if value}}
