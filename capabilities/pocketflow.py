"""PocketFlow nodes and flows as capabilities, unmodified (R2).

Every call works on a copy of the graph, so runs share no state. Synchronous nodes run in threads, asynchronous ones on
the event loop, and a synchronous node inside an asynchronous flow runs in a thread too. A node's own ``max_retries``
and ``wait`` are honoured by the node itself. A flow whose result is an :class:`contracts.capability.Ask` asks people.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import pocketflow

from capabilities.authoring import CapabilityBase
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
from capabilities.pocketflow_asking import ANSWER, PLACE, Course, following, park
from capabilities.threads import Key, ThreadRunner
from contracts.capability import Ask, Bundle, CallContext, CapabilityError, CapabilitySpec

AnyNode: TypeAlias = Any
"""A pocketflow.BaseNode: the library ships no types."""
Shared: TypeAlias = dict[str, Any]


class PocketFlowCapability(CapabilityBase):
    """A node or a flow with a spec; see :func:`from_pocketflow`."""

    def __init__(self, root: AnyNode, spec: CapabilitySpec, result: str, shared: Mapping[str, Any], place: str) -> None:
        """Check the graph once: a synchronous flow cannot run asynchronous nodes."""
        check_spec(spec, place)
        self.spec, self.place = spec, place
        self._root, self._result, self._shared = root, result, dict(shared)
        self._asynchronous = isinstance(root, pocketflow.AsyncNode)
        stuck = [node for flow, node in _members(root) if _is_async(node) and not _is_async(flow)]
        if stuck:
            name = type(stuck[0]).__name__
            raise DeclarationError(
                place, f"{spec.capability_id}: {name} is asynchronous; its flow must be an AsyncFlow"
            )
        self.threads = ThreadRunner(spec.capability_id)

    @property
    def busy(self) -> frozenset[Key]:
        """Return the (run, node) pairs that still have a thread."""
        return self.threads.busy

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        """Run a fresh copy and return ``shared[result]``; ``result_missing`` (not retryable) when it is not there."""
        shared: Shared = {name: _own(value, {}) for name, value in {**self._shared, **bundle.inputs}.items()}
        return await self._walk(shared, bundle, context, None)

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        """Go on after an answer, at the node it leads to: that of the action it is, else the default one.

        The answer is at ``shared["answer"]``. Without such a node the answer is the result. Raises
        :class:`CapabilityError` ``flow_changed`` (not retryable) when the flow is another than the one that asked.
        """
        place, nodes = state["place"], _graph(self._root)
        if place is None:
            return answer
        if place >= len(nodes) or type(nodes[place]).__name__ != state["node"]:
            message = f"The flow has changed since it asked; {state['node']} is not where it was."
            raise CapabilityError("flow_changed", message, retryable=False)
        if following(nodes[place], answer) is None:
            return answer
        return await self._walk({**state["shared"], ANSWER: answer}, bundle, context, (place, answer))

    async def _walk(
        self, shared: Shared, bundle: Bundle, context: CallContext, answered: tuple[int, Any] | None
    ) -> Any:
        """Run a copy of the graph, from its start or from where an answer leads; return what it leaves."""
        key = (context.run_id, context.node_id)
        self.threads.refuse_if_busy(key)
        shared["bundle"] = bundle
        course = Course()
        root = _Copier(self.threads, key, course).copy(self._root)
        if answered is not None:
            root.start_node = following(course.nodes[answered[0]], answered[1])
        if isinstance(root, pocketflow.AsyncNode):
            action = await root._run_async(shared)
        else:
            action = await self.threads.call(key, partial(root._run, shared))
        shared.setdefault("last_action", action)
        if self._result not in shared:
            there = ", ".join(sorted(map(str, shared)))
            message = f"The flow left no shared[{self._result!r}]; there is {there}."
            raise CapabilityError("result_missing", message, retryable=False)
        value = shared[self._result]
        if not isinstance(value, Ask):
            return value
        node = None if course.ended is None else _graph(self._root)[course.ended]
        return park(value, shared, self._result, course.ended, type(node).__name__)


def from_pocketflow(
    root: AnyNode,
    *,
    capability_id: str,
    consumes: Consumes | None = None,
    produces: Produces = (),
    result: str = "result",
    shared: Mapping[str, Any] | None = None,
    version: str = "1.0.0",
    description: str = "",
    effects: Literal["none", "idempotent", "once"] = "none",
    cost: float = 0.0,
    latency_ms: int = 100,
    quality: float = 0.5,
    batch: bool = False,
    requires: tuple[str, ...] = (),
    in_process: bool = True,
    scopes: str | tuple[str, ...] = (),
) -> PocketFlowCapability:
    """Make a capability of any PocketFlow Node, BatchNode, AsyncNode, Flow, AsyncFlow and their relatives.

    ``shared`` starts as a copy of the given mapping, with every input under its name and the bundle at ``"bundle"``;
    the output is ``shared[result]``. The last action is at ``"last_action"``. The remaining arguments are those of
    :class:`CapabilitySpec`. Raises ``DeclarationError`` with the caller's file and line.
    """
    spec = CapabilitySpec(
        capability_id,
        version=version,
        description=description or (type(root).__doc__ or "").strip().partition("\n")[0],
        consumes=parameters(consumes or {}),
        produces=produced(produces),
        effects=effects,
        cost=cost,
        latency_ms=latency_ms,
        quality=quality,
        batch=batch,
        requires=requires,
        in_process=in_process,
        scopes=named(scopes),
    )
    return PocketFlowCapability(root, spec, result, shared or {}, calling_place())


def _graph(root: AnyNode) -> list[AnyNode]:
    """Return every node of a graph, the root first, always in the same order."""
    nodes = {id(root): root} | {id(node): node for _, node in _members(root)}
    return list(nodes.values())


def _is_async(node: AnyNode) -> bool:
    return isinstance(node, pocketflow.AsyncNode)


def _members(root: AnyNode) -> Iterator[tuple[AnyNode, AnyNode]]:
    """Yield (flow, node) for every node that a flow below ``root`` runs itself."""
    flows: list[AnyNode] = [root]
    seen = {id(root)}
    while flows:
        flow = flows.pop()
        for node in _reachable(flow):
            yield flow, node
            if id(node) not in seen:
                seen.add(id(node))
                flows.append(node)


def _reachable(flow: AnyNode) -> list[AnyNode]:
    """Return the nodes that a flow walks: its start and every successor from there; none for a plain node."""
    start = getattr(flow, "start_node", None)
    found: dict[int, AnyNode] = {}
    stack = [start] if isinstance(start, pocketflow.BaseNode) else []
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(node.successors.values())
    return list(found.values())


class _InThread(pocketflow.AsyncNode):  # type: ignore[misc]  # pocketflow ships no types
    """Stands for a synchronous node inside an asynchronous flow and runs it in a thread.

    PocketFlow walks shallow copies and sets their parameters, so the node itself is copied once more per run.
    """

    def __init__(self, node: AnyNode, threads: ThreadRunner, key: Key) -> None:
        super().__init__()
        self._node, self._threads, self._key = node, threads, key
        self.params = node.params

    async def _run_async(self, shared: Shared) -> Any:
        node = copy.copy(self._node)
        node.set_params(self.params)
        return await self._threads.call(self._key, partial(node._run, shared))


class _Copier:
    """Copies a graph for one call: nodes, their links, and their state as far as it can be copied."""

    def __init__(self, threads: ThreadRunner, key: Key, course: Course) -> None:
        self._threads, self._key, self._course = threads, key, course

    def copy(self, root: AnyNode) -> AnyNode:
        """Return the copy of ``root`` with everything below it."""
        nodes = {id(node): node for node in _graph(root)}
        walked_async = {id(node) for flow, node in _members(root) if _is_async(flow)}
        copies = {name: copy.copy(node) for name, node in nodes.items()}
        memo: dict[int, Any] = dict(copies)
        stands = {
            name: _InThread(copies[name], self._threads, self._key)
            if name in walked_async and not _is_async(node)
            else copies[name]
            for name, node in nodes.items()
        }
        for place, (name, node) in enumerate(nodes.items()):
            self._fill(copies[name], node, memo, stands)
            stands[name].successors = copies[name].successors
            setattr(stands[name], PLACE, place)
        self._course.nodes = [stands[name] for name in nodes]
        if "get_next_node" in vars(copies[id(root)]) and not isinstance(root, pocketflow.BatchFlow):
            copies[id(root)].get_next_node = self._course.next
        return copies[id(root)]

    def _fill(self, fresh: AnyNode, node: AnyNode, memo: dict[int, Any], stands: Mapping[int, AnyNode]) -> None:
        state: dict[str, Any] = fresh.__dict__
        for attribute, value in node.__dict__.items():
            if attribute == "successors":
                fresh.successors = {action: stands.get(id(next_), next_) for action, next_ in value.items()}
            elif attribute == "start_node":
                state[attribute] = stands.get(id(value), value)
            else:
                state[attribute] = _own(value, memo)
        if isinstance(fresh, pocketflow.Flow) and type(fresh).get_next_node is pocketflow.Flow.get_next_node:
            # The library warns when an action leads nowhere; where warnings are errors that would fail the run.
            state["get_next_node"] = _next_node


def _own(value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy of an attribute; what refuses to be copied (a client, a lock) is shared as it is."""
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001 -- a class may refuse in any way; sharing is then what its author meant
        return value


def _next_node(current: AnyNode, action: str | None) -> AnyNode | None:
    """Return the successor for an action, or None: the flow ends."""
    return current.successors.get(action or "default")
