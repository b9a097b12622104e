"""How a capability is written: ``@capability`` over a function, or a class of :class:`CapabilityBase` (F15, H2, R2).

Outputs are not checked here; the engine does that for every capability alike.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal

from capabilities.declarations import (
    Consumes,
    DeclarationError,
    Produces,
    calling_place,
    check_spec,
    named,
    parameters,
    produced,
)
from capabilities.threads import Key, ThreadContext, ThreadRunner
from contracts.capability import Bundle, CallContext, CapabilityError, CapabilitySpec, LiteralCheck

_ABSENT: Final = object()


class CapabilityBase(ABC):
    """A capability as a class: set ``spec`` and write ``run``; one that asks people also writes ``resume``."""

    spec: CapabilitySpec

    @abstractmethod
    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        """Do the work once; see :class:`contracts.capability.Capability`."""

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        """Go on after an answer. Raises :class:`CapabilityError` ``resume_missing`` unless it is written."""
        raise _resume_missing(self.spec)


class FunctionCapability(CapabilityBase):
    """What :func:`capability` makes of a function; calling it calls the function.

    A coroutine function is awaited; any other runs in one of this capability's own threads.
    """

    def __init__(self, function: Callable[..., Any], spec: CapabilitySpec, place: str) -> None:
        """Bind ``function`` to ``spec``; raises :class:`DeclarationError` when its parameters do not fit."""
        check_spec(spec, place)
        self.function, self.spec, self.place = function, spec, place
        self.threads: Final = ThreadRunner(spec.capability_id)
        self._step = _Step(function, spec, place, ("bundle", "context"))
        self._answer_step: _Step | None = None
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, without a bundle: for tests and for reuse by its author."""
        return self.function(*args, **kwargs)

    @property
    def busy(self) -> frozenset[Key]:
        """Return the (run, node) pairs whose thread has not ended, timed-out ones included."""
        return self.threads.busy

    def on_answer(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Say what happens with the answer to an :class:`Ask`: ``(bundle, context, state, answer)``, any of them."""
        place = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
        self._answer_step = _Step(function, self.spec, place, ("bundle", "context", "state", "answer"))
        return function

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        """Call the function with what it names."""
        return await self._step(self.threads, bundle, context, {})

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        """Call what ``on_answer`` registered; ``resume_missing`` without it."""
        if self._answer_step is None:
            raise _resume_missing(self.spec)
        return await self._answer_step(self.threads, bundle, context, {"state": state, "answer": answer})


def capability(
    capability_id: str,
    *,
    consumes: Consumes | None = None,
    produces: Produces = (),
    version: str = "1.0.0",
    description: str = "",
    effects: Literal["none", "idempotent", "once"] = "none",
    cost: float = 0.0,
    latency_ms: int = 10,
    quality: float = 0.5,
    generic: bool = False,
    batch: bool = False,
    requires: tuple[str, ...] = (),
    in_process: bool = True,
    tokens: int = 0,
    literals: Mapping[str, LiteralCheck] | None = None,
    scopes: str | tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], FunctionCapability]:
    """Make a capability of a function; the description defaults to the first line of its docstring.

    The function names what it wants: ``bundle``, ``context``, parameters of ``consumes``, ``count`` (batch), or
    ``**inputs`` for every other input. Fields are those of :class:`CapabilitySpec`.
    """
    place = calling_place()
    fixed: dict[str, Any] = {
        "version": version, "effects": effects, "cost": cost, "latency_ms": latency_ms, "quality": quality,
        "generic": generic, "batch": batch, "requires": requires, "in_process": in_process, "tokens": tokens,
        "literals": literals or {}, "scopes": named(scopes),
    }  # fmt: skip

    def declare(function: Callable[..., Any]) -> FunctionCapability:
        said = description or (inspect.getdoc(function) or "").partition("\n")[0]
        spec = CapabilitySpec(
            capability_id, description=said, consumes=parameters(consumes or {}), produces=produced(produces), **fixed
        )
        return FunctionCapability(function, spec, place)

    return declare


def take(bundle: Bundle, name: str, otherwise: Any = _ABSENT) -> Any:
    """Return an input of the bundle, ``otherwise`` when it is not there; without one raise ``input_missing``."""
    value = bundle.inputs.get(name, otherwise)
    if value is _ABSENT:
        raise CapabilityError("input_missing", f"The input {name} is not bound.", retryable=False)
    return value


class _Step:
    """A function with the names it asks for, called on the loop or in a thread."""

    _VARIABLE: ClassVar = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)

    def __init__(self, function: Callable[..., Any], spec: CapabilitySpec, place: str, given: tuple[str, ...]) -> None:
        self._function = function
        self._asynchronous = inspect.iscoroutinefunction(function)
        self._inputs: dict[str, Any] = {}
        self._given: list[str] = []
        self._rest = False
        allowed = set(spec.consumes) | ({"count"} if spec.batch else set())
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._rest = True
            elif parameter.kind in self._VARIABLE:
                raise DeclarationError(place, f"{spec.capability_id}: {name} cannot be given by name")
            elif name in given:
                self._given.append(name)
            elif name in allowed:
                self._inputs[name] = parameter.default
            else:
                known = ", ".join([*given, *sorted(allowed)])
                raise DeclarationError(place, f"{spec.capability_id}: nothing is called {name}; there is {known}")

    async def __call__(
        self, threads: ThreadRunner, bundle: Bundle, context: CallContext, more: Mapping[str, Any]
    ) -> Any:
        if self._asynchronous:
            return await self._function(**self._arguments(bundle, context, more))
        arguments = self._arguments(bundle, ThreadContext.here(context), more)
        key = (context.run_id, context.node_id)
        said = await threads.run(key, functools.partial(self._function, **arguments))
        return await said if inspect.isawaitable(said) else said

    def _arguments(self, bundle: Bundle, context: CallContext, more: Mapping[str, Any]) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._given:
            at_hand = {"bundle": bundle, "context": context, **more}
            arguments = {name: at_hand[name] for name in self._given}
        for name, default in self._inputs.items():
            fallback = _ABSENT if default is inspect.Parameter.empty else default
            arguments[name] = take(bundle, name, fallback)
        if self._rest:
            arguments.update({name: value for name, value in bundle.inputs.items() if name not in arguments})
        return arguments


def _resume_missing(spec: CapabilitySpec) -> CapabilityError:
    message = f"{spec.capability_id} asked a question but does not say what to do with the answer."
    return CapabilityError("resume_missing", message, retryable=False)
