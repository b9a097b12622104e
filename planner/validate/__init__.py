"""Checks of a drafted plan in four layers; a later layer runs even when an earlier one found errors (W4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from contracts.plan import Finding
from planner.draft import Draft
from planner.validate import capability, resource, security, structure, tools

Check = Callable[[Draft], Iterator[Finding]]
LAYERS: Final[tuple[tuple[Check, ...], ...]] = (
    structure.CHECKS,
    security.CHECKS,
    capability.CHECKS,
    tools.CHECKS,
    resource.CHECKS,
)
MAX_FINDINGS: Final = 100


def findings_of(draft: Draft) -> list[Finding]:
    """Return what every check of every layer found, errors first, at most ``MAX_FINDINGS``."""
    found: list[Finding] = list(draft.derived)
    for layer in LAYERS:
        for check in layer:
            for finding in check(draft):
                found.append(finding)
                if len(found) >= 10 * MAX_FINDINGS:
                    break
    return sorted(found, key=lambda finding: finding.severity != "error")[:MAX_FINDINGS]
