"""Any PocketFlow node or flow runs unmodified, off the loop, without shared state (R2)."""

import asyncio
import threading
from typing import Any

import pytest
from pocketflow import (
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
)

from capabilities import CapabilityError, DeclarationError
from capabilities.pocketflow import PocketFlowCapability, from_pocketflow
from tests.capabilities.calls import Call, beats_while, bundle

# mypy: disable-error-code="misc"


class Split(Node):
    def prep(self, shared: dict[str, Any]) -> str:
        text: str = shared["text"]
        return text

    def exec(self, prep_res: str) -> list[str]:
        return prep_res.split()

    def post(self, shared: dict[str, Any], prep_res: str, exec_res: list[str]) -> str:
        shared["words"] = exec_res
        return "long" if len(exec_res) > 2 else "short"


class Count(BatchNode):
    def prep(self, shared: dict[str, Any]) -> list[str]:
        words: list[str] = shared["words"]
        return words

    def exec(self, prep_res: str) -> int:
        return len(prep_res)

    def post(self, shared: dict[str, Any], prep_res: list[str], exec_res: list[int]) -> str:
        shared["result"] = exec_res
        return "done"


class Flaky(Node):
    """Fails twice, then works; retries are its own."""

    def __init__(self) -> None:
        super().__init__(max_retries=3)
        self.calls = 0

    def exec(self, prep_res: Any) -> int:
        self.calls += 1
        if self.cur_retry < 2:
            raise ValueError("not yet")
        return self.calls

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: int) -> None:
        shared["result"] = exec_res


class Greet(AsyncNode):
    async def prep_async(self, shared: dict[str, Any]) -> str:
        return f"{shared['bundle'].objective}, {shared['name']}"

    async def exec_async(self, prep_res: str) -> str:
        await asyncio.sleep(0)
        return prep_res

    async def post_async(self, shared: dict[str, Any], prep_res: str, exec_res: str) -> str:
        shared["greeting"] = exec_res
        return "default"


def _capability(root: Any, **more: Any) -> PocketFlowCapability:
    return from_pocketflow(root, capability_id="pf.one", **more)


async def test_a_flow_of_synchronous_nodes_with_branches() -> None:
    split, count = Split(), Count()
    split - "long" >> count
    flow = _capability(Flow(start=split))
    assert await flow.run(bundle({"text": "one three five"}), Call()) == [3, 5, 4]


async def test_an_action_that_leads_nowhere_ends_the_flow_quietly() -> None:
    """Warnings are errors in this suite; the library warns here on its own."""
    split, count = Split(), Count()
    split - "long" >> count
    flow = _capability(Flow(start=split), result="words")
    assert await flow.run(bundle({"text": "one"}), Call()) == ["one"]
    last = _capability(Flow(start=split), result="last_action")
    assert await last.run(bundle({"text": "one"}), Call()) == "short"


async def test_a_missing_result_says_what_there_is() -> None:
    with pytest.raises(
        CapabilityError, match=r"no shared\['result'\]; there is bundle, last_action, text, words"
    ) as no:
        await _capability(Split()).run(bundle({"text": "one"}), Call())
    assert no.value.retryable is False


async def test_nodes_retry_by_their_own_rules_and_start_fresh_every_time() -> None:
    node = Flaky()
    flaky = _capability(node)
    assert [await flaky.run(bundle(), Call()) for _ in range(3)] == [3, 3, 3]
    assert node.calls == 0


async def test_asynchronous_nodes_and_flows() -> None:
    greet = _capability(AsyncFlow(start=Greet()), result="greeting", consumes={"name": "text"})
    assert await greet.run(bundle({"name": "Ana"}, objective="Hello"), Call()) == "Hello, Ana"
    alone = _capability(Greet(), result="greeting")
    assert await alone.run(bundle({"name": "Ben"}), Call()) == "Say it, Ben"


@pytest.mark.parametrize("kind", [AsyncBatchNode, AsyncParallelBatchNode])
async def test_asynchronous_batches(kind: Any) -> None:
    class Double(kind):
        async def prep_async(self, shared: dict[str, Any]) -> list[int]:
            numbers: list[int] = shared["numbers"]
            return numbers

        async def exec_async(self, prep_res: int) -> int:
            await asyncio.sleep(0)
            return prep_res * 2

        async def post_async(self, shared: dict[str, Any], prep_res: Any, exec_res: list[int]) -> None:
            shared["result"] = exec_res

    assert await _capability(Double()).run(bundle({"numbers": [1, 2, 3]}), Call()) == [2, 4, 6]


class Tally(Node):
    """Uses its parameters, as the nodes of a batch flow do."""

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> None:
        shared.setdefault("result", []).append(self.params["key"])


async def test_batch_flows_give_each_pass_its_parameters() -> None:
    class Each(BatchFlow):
        def prep(self, shared: dict[str, Any]) -> list[dict[str, str]]:
            return [{"key": key} for key in shared["keys"]]

    assert await _capability(Each(start=Tally())).run(bundle({"keys": ["a", "b"]}), Call()) == ["a", "b"]


async def test_synchronous_nodes_in_a_parallel_asynchronous_flow_keep_their_own_parameters() -> None:
    class Each(AsyncParallelBatchFlow):
        async def prep_async(self, shared: dict[str, Any]) -> list[dict[str, int]]:
            return [{"key": key} for key in shared["keys"]]

    keys = list(range(30))
    said = await _capability(Each(start=Tally())).run(bundle({"keys": keys}), Call())
    assert sorted(said) == keys


class Wait(Node):
    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.gate = gate

    def exec(self, prep_res: Any) -> bool:
        return self.gate.wait(10)

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: bool) -> None:
        shared["result"] = exec_res


@pytest.mark.parametrize("kind", [Flow, AsyncFlow])
async def test_a_synchronous_node_never_blocks_the_loop(kind: Any) -> None:
    """R2, trap: a synchronous node inside an asynchronous flow would. Its Event cannot be copied, so it is shared."""
    gate = threading.Event()
    held = _capability(kind(start=Wait(gate)))
    assert await beats_while(held.run(bundle(), Call()), gate.set) is True


class Collect(Node):
    """Keeps state on itself and in a list, as careless nodes do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def exec(self, prep_res: Any) -> None: ...

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> None:
        self.seen.append(shared["name"])
        shared["items"].append(shared["name"])
        shared["result"] = [list(self.seen), list(shared["items"])]


async def test_concurrent_runs_share_no_state() -> None:
    items: list[str] = []
    flow = _capability(Flow(start=Collect()), shared={"items": items})
    names = [f"n{number}" for number in range(20)]
    runs = [flow.run(bundle({"name": name}), Call(run_id=name)) for name in names]
    assert await asyncio.gather(*runs) == [[[name], [name]] for name in names]
    assert items == []


async def test_inputs_of_other_nodes_cannot_be_changed_through_shared() -> None:
    upstream = {"items": ["a"], "name": "b"}
    await _capability(Collect()).run(bundle(upstream), Call())
    assert upstream == {"items": ["a"], "name": "b"}


async def test_a_loop_in_the_graph_is_copied_once() -> None:
    class Down(Node):
        def post(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> str:
            shared["n"] -= 1
            shared["result"] = shared["n"]
            return "again" if shared["n"] else "end"

    class Same(Node): ...

    down, same = Down(), Same()
    down - "again" >> same
    same >> down
    assert await _capability(Flow(start=down)).run(bundle({"n": 5}), Call()) == 0


async def test_a_nested_synchronous_flow_runs_in_a_thread_of_its_own() -> None:
    split, count = Split(), Count()
    split - "long" >> count
    outer = AsyncFlow(start=Greet())
    outer.start_node >> Flow(start=split)
    said = await _capability(outer).run(bundle({"name": "Ana", "text": "a bb ccc"}), Call())
    assert said == [1, 2, 3]


def test_an_asynchronous_node_in_a_synchronous_flow_is_refused_where_it_is_declared() -> None:
    with pytest.raises(DeclarationError, match=r"test_pocketflow\.py:\d+: pf\.one: Greet is asynchronous"):
        _capability(Flow(start=Greet()))


async def test_errors_of_a_node_reach_the_engine() -> None:
    class Broken(Node):
        def exec(self, prep_res: Any) -> None:
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await _capability(Flow(start=Broken())).run(bundle(), Call())
