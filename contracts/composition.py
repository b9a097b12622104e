"""How an answer is put together from a plan's output map: pure, shared by the planner's proofs and the finish (F11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contracts.plan import Adapter, Binding, OutputMap

Lookup = Callable[[Binding], Any]


def compose(output: OutputMap, lookup: Lookup) -> Any:
    """Return the answer: every entry looked up, adapted, and set at its pointer; ``""`` is the whole answer."""
    whole = output.map.get("")
    answer: Any = adapt(lookup(whole), whole.adapt) if whole is not None else {}
    for pointer, binding in output.map.items():
        if pointer:
            _place(answer, pointer, adapt(lookup(binding), binding.adapt))
    return answer


def adapt(value: Any, adapters: Sequence[Adapter]) -> Any:
    """Apply the adapters in order; the value given is never changed."""
    for adapter in adapters:
        path = [part.replace("~1", "/").replace("~0", "~") for part in adapter.at.split("/")[1:]]
        value = _at(value, path, adapter)
    return value


def _at(value: Any, path: list[str], adapter: Adapter) -> Any:
    if not path:
        return _apply(value, adapter)
    head, rest = path[0], path[1:]
    if head == "*" and isinstance(value, list):
        return [_at(item, rest, adapter) for item in value]
    if isinstance(value, dict) and head in value:
        return {**value, head: _at(value[head], rest, adapter)}
    return value


def _apply(value: Any, adapter: Adapter) -> Any:
    if adapter.op == "wrap":
        return [value]
    if not isinstance(value, dict):
        return value
    if adapter.op == "rename":
        names = adapter.names or {}
        return {names.get(key, key): item for key, item in value.items()}
    keep = set(adapter.keys or ())
    return {key: item for key, item in value.items() if key in keep}


def _place(answer: Any, pointer: str, value: Any) -> None:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
    for part in parts[:-1]:
        answer = answer.setdefault(part, {})
    answer[parts[-1]] = value
