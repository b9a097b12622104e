"""``memory``: reads or writes one key of what outlives runs, or lists keys (W5, R5)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.capability import CapabilityError
from contracts.clock import rfc3339
from contracts.errors import StoreUnavailable
from contracts.ids import is_token
from contracts.memory import read_scope
from contracts.outcome import Done, Fail, Outcome, Retry
from contracts.plan import KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work
from engine.remembering import Notebook

LISTED = 100
_Name = Annotated[str, Field(min_length=1, max_length=300)]


class MemoryFields(Wire):
    """``scope`` is one that the envelope names; ``key`` is given here or as the input ``key``.

    ``set`` takes the input ``value``; ``set`` and ``forget`` take the input ``expected_revision``, 0: not there yet.
    ``default`` is what ``get`` gives for a key that is not there. ``list`` takes ``prefix``.
    """

    op: Literal["get", "set", "list", "forget"]
    scope: _Name
    key: _Name | None = None
    default: Any = None
    prefix: Annotated[str, Field(max_length=128)] = ""

    @field_validator("scope")
    @classmethod
    def _scope(cls, value: str) -> str:
        if read_scope(value) is None:
            raise PydanticCustomError("bad_scope", "A scope of memory is agent:<agent>/<story> or shared:<namespace>.")
        return value

    @field_validator("key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        if value is not None and not is_token(value):
            raise PydanticCustomError(
                "bad_id", "Keys are 1 to 128 letters, digits and . _ : - and start with a letter or digit."
            )
        return value

    @model_validator(mode="after")
    def _fits(self) -> MemoryFields:
        given = self.model_fields_set
        for name, ops in (("key", ("get", "set", "forget")), ("default", ("get",)), ("prefix", ("list",))):
            if name in given and self.op not in ops:
                raise PydanticCustomError(
                    "unused_field", "{name} is of no use to {op}.", {"name": name, "op": self.op, "key": name}
                )
        return self


def _inputs(node: PlanNode, own: Any) -> list[tuple[str, str, str]]:
    """Return what is wrong with the inputs: each op has its own."""
    known = {"get": {"key"}, "set": {"key", "value", "expected_revision"}, "list": set()}
    taken = known.get(own.op, {"key", "expected_revision"})
    found = [
        ("unknown_input", f"{own.op} takes no input {name!r}.", f"/inputs/{name}")
        for name in sorted(node.inputs.keys() - taken)
    ]
    if own.op == "set" and "value" not in node.inputs:
        found.append(("input_missing", "set needs the input value.", "/inputs"))
    if own.op != "list" and (own.key is None) == ("key" not in node.inputs):
        found.append(("ambiguous_key", "Give the key once: as a field or as an input.", "/key"))
    return found


class MemoryKind:
    """Reads now; what it writes is written with its completion, in one transaction."""

    spec = KindSpec(
        name="memory",
        fields=MemoryFields,
        summary="Reads, writes, lists or forgets what outlives runs.",
        remembers=True,
        misfits=_inputs,
        scopes=lambda own: [("/scope", own.scope)],
    )
    pure = False

    async def run(self, work: Work) -> Outcome:
        """Do the operation. A failed compare-and-set is ``memory_conflict``, which is tried again."""
        notebook = work.notebook
        if notebook is None:
            return Fail("memory_scope_unnamed", f"The run does not name {work.own.scope} in context.memory.")
        try:
            return Done(await _done(notebook, work))
        except CapabilityError as error:
            return Fail(error.code, error.message)
        except StoreUnavailable as error:
            return Retry(error.code, error.message)


async def _done(notebook: Notebook, work: Work) -> Any:
    own, inputs = work.own, work.bundle.inputs
    if own.op == "list":
        items = await notebook.keys(own.scope, own.prefix, LISTED + 1)
        shown = [{"key": one.key, "revision": one.revision, "updated_at": rfc3339(one.updated_at)} for one in items]
        return {"items": shown[:LISTED], "more": len(items) > LISTED}
    key: Any = own.key or inputs.get("key")
    expected = inputs.get("expected_revision")
    if own.op == "get":
        found = await notebook.get(own.scope, key)
        if found is None:
            return {"found": False, "value": own.default, "revision": 0}
        return {"found": True, "value": found.value, "revision": found.revision}
    if own.op == "set":
        if "value" not in inputs:
            raise CapabilityError("input_missing", "What should have made the value did not.", retryable=False)
        notebook.remember(own.scope, key, inputs["value"], expected)
    else:
        notebook.forget(own.scope, key, expected)
    return {"scope": own.scope, "key": key}


MEMORY = MemoryKind()
