"""The auditor: every invariant that must hold after a simulation, whatever the seed was."""

from __future__ import annotations

from tests.simulation import audit_effects, audit_log, audit_order, audit_people, audit_rows
from tests.simulation.evidence import Evidence
from tests.simulation.world import Result

MOST = 12


def audit(evidence: Evidence, result: Result) -> list[str]:
    """Return everything that is wrong; an empty list when all is well."""
    faults = [f"stuck: {result.stuck}"] if result.stuck else []
    faults += [f"surprise: {line}" for line in result.surprises]
    for part in (audit_log, audit_order, audit_people, audit_rows, audit_effects):
        faults += list(part.check(evidence))
    return faults[:MOST]
