"""``join``: waits for all its predecessors, or for the first (``wait: any``)."""

from __future__ import annotations

from typing import Literal

from contracts.outcome import Done, Outcome
from contracts.plan import KindSpec
from contracts.wire import Wire
from engine.kinds.base import Work


class JoinFields(Wire):
    """``all`` waits until every way in is decided, ``any`` starts at the first one taken."""

    wait: Literal["all", "any"] = "all"


class JoinKind:
    """Its output is the object of its inputs."""

    spec = KindSpec(name="join", fields=JoinFields, summary="Waits for all, or for any, of its predecessors.")
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the inputs."""
        return Done(dict(work.bundle.inputs))


JOIN = JoinKind()
