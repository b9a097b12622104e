"""Deciding several prompts of one sort at once: each by itself, in its own transaction (H7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from pydantic import Field

from contracts.access import Principal
from contracts.answers import DecisionForm, canonical
from contracts.errors import ErrorItem, FlexError, MixedPrompts, PromptNotFound, StoreUnavailable, Unprocessable
from contracts.prompts import MAX_COMMENT, DecisionInput
from contracts.wire import Wire, read_model
from hitl.desk import Decided, Desk
from hitl.render import form_of
from service.gone import prompt_gone_or_missing
from store import prompts
from store.connect import Database
from store.rows import PromptRow

MAX_PROMPTS: Final = 100
CHANNEL: Final = "batch"
_Id = Annotated[str, Field(min_length=1, max_length=200)]


class PromptChoice(Wire):
    """One of the prompts; with ``bound_hash`` it is decided only as it was seen."""

    prompt_id: _Id
    bound_hash: Annotated[str, Field(max_length=128)] | None = None


class BatchInput(Wire):
    """The same decision for up to 100 prompts."""

    prompts: Annotated[list[PromptChoice], Field(min_length=1, max_length=MAX_PROMPTS)]
    action: Annotated[str, Field(min_length=1, max_length=40)]
    answer: Any = None
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] | None = None

    def decision(self, bound_hash: str | None) -> DecisionInput:
        """Return what is decided on one of them."""
        answer = {"answer": self.answer} if "answer" in self.model_fields_set else {}
        return DecisionInput(action=self.action, comment=self.comment, bound_hash=bound_hash, **answer)


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What became of one prompt: the decision, or why there is none."""

    prompt_id: str
    outcome: Decided | FlexError

    def as_wire(self, correlation_id: str) -> dict[str, Any]:
        """Return it with the status that the decision alone would have been answered with."""
        outcome = self.outcome
        if isinstance(outcome, FlexError):
            problem = outcome.as_problem(correlation_id)
            return {"prompt_id": self.prompt_id, "status_code": outcome.status, "problem": problem}
        said = {"decision": asdict(outcome.decision), "prompt": {"status": outcome.status}}
        return {"prompt_id": self.prompt_id, "status_code": 200, **said}


class Batches:
    """The use case of deciding many."""

    def __init__(self, database: Database, desk: Desk) -> None:
        """Take what is needed."""
        self._database, self._desk = database, desk

    async def decide(self, principal: Principal, body: Any) -> list[BatchItem]:
        """Decide every prompt of the body, in its order; one that is refused keeps no other from being decided.

        Raises Unprocessable, MixedPrompts (they differ in kind, actions or form; nothing was decided then),
        StoreUnavailable when not even the prompts could be read.
        """
        asked = read_model(BatchInput, body, Unprocessable)
        _check_distinct(asked.prompts)
        known = await prompts.many(self._database, principal.tenant, [each.prompt_id for each in asked.prompts])
        _check_alike(asked.prompts, known)
        items: list[BatchItem] = []
        away: StoreUnavailable | None = None
        for choice in asked.prompts:
            # Once the database is away, to ask it for each of the rest would only take time.
            outcome = away or await self._one(principal, choice.prompt_id, asked.decision(choice.bound_hash))
            away = outcome if isinstance(outcome, StoreUnavailable) else None
            items.append(BatchItem(choice.prompt_id, outcome))
        return items

    async def _one(self, principal: Principal, prompt_id: str, decision: DecisionInput) -> Decided | FlexError:
        try:
            return await self._desk.decide(principal, prompt_id, decision, CHANNEL)
        except PromptNotFound:
            return await prompt_gone_or_missing(self._database, principal.tenant, prompt_id)
        except FlexError as error:
            return error


def _check_distinct(choices: Sequence[PromptChoice]) -> None:
    seen: set[str] = set()
    for place, choice in enumerate(choices):
        if choice.prompt_id in seen:
            item = ErrorItem(f"/prompts/{place}/prompt_id", "given_twice", "Name every prompt once.")
            raise Unprocessable(errors=[item])
        seen.add(choice.prompt_id)


def _check_alike(choices: Sequence[PromptChoice], known: Mapping[str, PromptRow]) -> None:
    """Raise MixedPrompts, naming those that differ from the first one; unknown ones are told of one by one later."""
    first: tuple[Any, ...] | None = None
    different = []
    for place, choice in enumerate(choices):
        row = known.get(choice.prompt_id)
        if row is None:
            continue
        content = _content(form_of(row))
        first = first or content
        if content != first:
            message = "Has another kind, other actions or another form than the first one."
            different.append(ErrorItem(f"/prompts/{place}", "mixed_prompts", message))
    if different:
        raise MixedPrompts(errors=different)


def _content(form: DecisionForm) -> tuple[Any, ...]:
    # As bytes: to Python, a schema that says 1 equals one that says true.
    return (form.kind, form.actions, canonical(form.answer_schema))
