"""``records.group`` and ``notes.write``: change records → release notes (wire §6 B). Deterministic and offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capabilities.authoring import capability
from capabilities.release_facets import CHANGE_GROUPS, CHANGE_RECORDS, RELEASE_SECTIONS, RELEASE_SUMMARY

Json = Mapping[str, Any]

TITLES: Final = {
    "security": "Security", "feat": "Features", "fix": "Fixes", "perf": "Performance", "deprecate": "Deprecations",
    "remove": "Removals", "revert": "Reverts", "docs": "Documentation", "refactor": "Refactoring",
    "other": "Other changes", "maintenance": "Maintenance",
}  # fmt: skip
"""Types in the order in which readers want them, with the titles of their sections."""
_UPKEEP: Final = frozenset({"style", "test", "build", "ci", "chore"})
_NOUNS: Final = {
    "security": ("security fix", "security fixes"), "feat": ("feature", "features"), "fix": ("fix", "fixes"),
    "perf": ("performance improvement", "performance improvements"),
}  # fmt: skip


@capability("records.group", consumes={"records": CHANGE_RECORDS}, produces=CHANGE_GROUPS, quality=0.8, latency_ms=5)
async def records_group(records: Sequence[Json]) -> list[dict[str, Any]]:
    """Groups changes by type, in the order in which readers want them; merge commits are left out."""
    groups: dict[str, list[Json]] = {}
    for record in records:
        kind = record["type"]
        if kind != "merge":
            groups.setdefault("maintenance" if kind in _UPKEEP else kind, []).append(record)
    order = [*TITLES, *sorted(set(groups) - set(TITLES))]
    return [
        {"type": kind, "title": TITLES.get(kind, kind.capitalize()), "changes": groups[kind]}
        for kind in order
        if kind in groups
    ]


@capability(
    "notes.write",
    consumes={"groups": CHANGE_GROUPS},
    produces=(RELEASE_SECTIONS, RELEASE_SUMMARY),
    quality=0.4,
    latency_ms=5,
)
async def notes_write(groups: Sequence[Json]) -> dict[str, Any]:
    """Writes the sections and the summary of release notes; breaking changes come first."""
    breaking = [change for group in groups for change in group["changes"] if change["breaking"]]
    sections = [{"title": "Breaking changes", "items": [_item(change) for change in breaking]}] if breaking else []
    for group in groups:
        items = [_item(change) for change in group["changes"] if not change["breaking"]]
        if items:
            sections.append({"title": group["title"], "items": items})
    return {RELEASE_SECTIONS.name: sections, RELEASE_SUMMARY.name: _summary(groups, len(breaking))}


def _item(change: Json) -> str:
    subject, scope = change["subject"], change.get("scope")
    return f"{scope}: {subject}" if scope else subject[:1].upper() + subject[1:]


def _summary(groups: Sequence[Json], breaking: int) -> str:
    counts = {group["type"]: len(group["changes"]) for group in groups}
    total = sum(counts.values())
    if not total:
        return "This release has no changes."
    parts = [_count(counts[kind], *nouns) for kind, nouns in _NOUNS.items() if kind in counts]
    rest = total - sum(counts.get(kind, 0) for kind in _NOUNS)
    if rest:
        parts.append(_count(rest, "other change", "other changes") if parts else _count(rest, "change", "changes"))
    warning = {0: "", 1: " One of them is breaking."}.get(breaking, f" {breaking} of them are breaking.")
    if total == 1 and breaking:
        warning = " It is breaking."
    first = next(change for group in groups for change in group["changes"])
    return f"This release brings {_listed(parts)}.{warning} It starts with: {_item(first)}."


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
