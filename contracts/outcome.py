"""What an attempt at a node says when it ends: a value, never an exception (design §1.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.prompts import PromptSpec


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt cost: model tokens, and money in the operator's currency."""

    tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Return the sum."""
        return Usage(self.tokens + other.tokens, self.cost + other.cost)


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; ``output`` is a JSON value that fits the node's contract."""

    output: Any
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed in a way another attempt may mend; ``errors`` is feedback for the next bundle.

    ``code`` is ``output_invalid`` when the output broke its contract (errors are wire validation findings).
    ``after_ms`` overrides the backoff. ``ambiguous`` says a ``once`` effect may have happened.
    ``output`` is the refused output, kept for the repair prompt.
    """

    code: str
    message: str
    errors: Sequence[Mapping[str, Any]] = ()
    after_ms: int | None = None
    ambiguous: bool = False
    output: Any = None
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Pause:
    """The node waits for the answer to ``prompt``; no body is kept in memory (H1).

    With ``resumes`` the attempt goes on with the answer and ``state`` (a capability asked from inside its work);
    without it the answer is the node's output.
    """

    prompt: PromptSpec
    resumes: bool = False
    state: Any = None
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt failed for good; no further attempt would help."""

    code: str
    message: str
    errors: Sequence[Mapping[str, Any]] = ()
    ambiguous: bool = False
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Skip:
    """The node has nothing to do, with a reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expand:
    """A map unfolds: one child node per item, in order; the map completes with the list of their outputs."""

    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Choose:
    """A branch took its ``then`` (``taken`` true) or its ``else`` side."""

    taken: bool
    output: Any = field(default=None)


@dataclass(frozen=True, slots=True)
class Sleep:
    """The node completes when the time has come; ``until_ms`` is wall time, ms since the epoch."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Await:
    """The node completes with the output of a callback; without one in ``timeout_ms`` it fails, or goes on with null.

    ``continues`` says that it goes on.
    """

    timeout_ms: int | None = None
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Iterate:
    """A loop begins: its inner node runs again and again, first with ``initial``."""

    initial: Any


@dataclass(frozen=True, slots=True)
class Spawn:
    """A child run begins.

    ``envelope`` is the part of its TaskEnvelope (JSON) that the node decides: objective, inputs, output_contract, and
    the plan in ``workflow``; the rest is its parent's.
    """

    envelope: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that a chat's model asks for, as it becomes a node.

    ``node`` is the JSON of a ``call`` node without its id; None when there is nothing to call, and ``error`` says why.
    ``schema`` is that of its inputs, ``shown_as`` what stands behind the capability's name now (H5).
    """

    call_id: str
    name: str
    arguments: str
    node: Mapping[str, Any] | None = None
    error: str | None = None
    schema: Any = None
    shown_as: str | None = None


@dataclass(frozen=True, slots=True)
class Invoke:
    """A chat goes on with calls: each is a child node, and when all have ended the same attempt goes on with ``state``.

    ``state`` (JSON) holds what was said so far.
    """

    calls: Sequence[Asked]
    state: Any
    usage: Usage = NO_USAGE


Outcome = Done | Retry | Pause | Fail | Skip | Expand | Choose | Sleep | Await | Iterate | Spawn | Invoke
