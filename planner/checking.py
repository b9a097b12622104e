"""Checking a plan's JSON against a scene, the plans inside it too."""

from __future__ import annotations

from typing import Any

from contracts.ports import Planned, Unplannable
from planner.draft import Scene
from planner.sealing import sealed
from planner.submitted import draft_of, read_plan
from planner.subplans import with_subplans


def check_plan(plan: Any, scene: Scene, at: str) -> Planned | Unplannable:
    """Check a plan's JSON against a scene."""
    read = read_plan(plan, at)
    if isinstance(read, tuple):
        return Unplannable(read)
    whole, found = with_subplans(read, scene, at, check_plan)
    draft = draft_of(whole, scene, at)
    draft.derived += found
    return sealed(draft, "submitted", read.plan_version)
