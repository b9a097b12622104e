"""The node kinds, one file each; adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contracts.plan import KindTable
from engine.kinds.ask import ASK
from engine.kinds.base import Kind
from engine.kinds.branch import BRANCH
from engine.kinds.call import CALL, STRUCTURE
from engine.kinds.chat import CHAT
from engine.kinds.delay import DELAY
from engine.kinds.ends import END, START
from engine.kinds.error_handler import ERROR_HANDLER
from engine.kinds.join import JOIN
from engine.kinds.loop import LOOP
from engine.kinds.map import MAP
from engine.kinds.memory import MEMORY
from engine.kinds.subflow import SUBFLOW
from engine.kinds.transform import TRANSFORM
from engine.kinds.variable import VARIABLE
from engine.kinds.wait import WAIT

KINDS: Final[tuple[Kind, ...]] = (
    CALL,
    STRUCTURE,
    TRANSFORM,
    BRANCH,
    MAP,
    LOOP,
    JOIN,
    SUBFLOW,
    ASK,
    DELAY,
    WAIT,
    MEMORY,
    VARIABLE,
    ERROR_HANDLER,
    START,
    END,
    CHAT,
)

BY_NAME: Final[Mapping[str, Kind]] = {kind.spec.name: kind for kind in KINDS}


def kind_table() -> KindTable:
    """Return the kinds as the planner sees them: by name, without behaviour."""
    return {kind.spec.name: kind.spec for kind in KINDS}
