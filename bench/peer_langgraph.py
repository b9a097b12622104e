"""LangGraph with its own savers, durability ``sync``: the same chains and fans."""

from __future__ import annotations

import operator
import uuid
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypedDict

import uvloop
from langgraph.graph import END, START, StateGraph

from bench.loop import arguments, drive, emit, summary


class State(TypedDict, total=False):
    """What the graph carries: a value, and the list that a fan gathers."""

    value: int
    gathered: Annotated[list[int], operator.add]


def _node(number: int, *, gathers: bool) -> Any:
    async def node(_state: State) -> dict[str, Any]:
        return {"gathered": [number]} if gathers else {"value": number}

    return node


def build(scenario: str, length: int, saver: Any) -> Any:
    """Return the compiled graph."""
    graph = StateGraph(State)
    if scenario == "fan":
        middle = [f"b{i}" for i in range(20)]
        for number, name in enumerate(["a", *middle, "z"]):
            graph.add_node(name, _node(number, gathers=True))
        graph.add_edge(START, "a")
        for name in middle:
            graph.add_edge("a", name)
        graph.add_edge(middle, "z")
        graph.add_edge("z", END)
    else:
        for number in range(length):
            graph.add_node(f"n{number}", _node(number, gathers=False))
        graph.add_edge(START, "n0")
        for number in range(length - 1):
            graph.add_edge(f"n{number}", f"n{number + 1}")
        graph.add_edge(f"n{length - 1}", END)
    return graph.compile(checkpointer=saver)


async def _saver(url: str, stack: AsyncExitStack) -> Any:
    if url.startswith("postgresql"):
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(url, min_size=4, max_size=20, open=False, kwargs=options)
        await stack.enter_async_context(pool)
        saver: Any = AsyncPostgresSaver(pool)
    else:
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        saver = AsyncSqliteSaver(await stack.enter_async_context(aiosqlite.connect(url)))
    await saver.setup()
    return saver


async def main() -> None:
    """Run one case."""
    given = arguments(url="", scenario="chain", n=10, c=1, seconds=3.0)
    nodes = 22 if given.scenario == "fan" else given.n
    async with AsyncExitStack() as stack:
        graph = build(given.scenario, given.n, await _saver(given.url, stack))

        async def one(_number: int) -> None:
            config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": given.n + 50}
            await graph.ainvoke({"value": 0, "gathered": []}, config, durability="sync")

        await drive(one, given.c, min(1.0, given.seconds / 4))
        latencies, wall = await drive(one, given.c, given.seconds)
    store = "postgres" if given.url.startswith("postgresql") else "sqlite"
    emit(who="langgraph", store=store, scenario=given.scenario, n=nodes, c=given.c, **summary(latencies, wall, nodes))


uvloop.run(main())
