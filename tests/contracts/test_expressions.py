"""Conditions and transforms: compile-time refusals with their place, bounded and pure evaluation (F6, W5, R6)."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import expressions
from contracts.expressions import ExpressionFailed, ExpressionRefused, compile_cel, compile_jsonata, rename_node

NODES = {"a": {"x": 2, "list": [1, 5], "name": "n"}, "b-c": "text", "d": None}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("nodes.a.x > 1", True),
        ("nodes.a.x == 3 || nodes['b-c'] == 'text'", True),
        ("inputs.region == 'DE' && !has(nodes.z)", True),
        ("nodes.a.list.exists(i, i > 5)", False),
        ("nodes.d == null", True),
        ("size(nodes.a.list) == 2", True),
    ],
)
def test_a_condition_reads_nodes_and_inputs(text: str, holds: bool) -> None:
    assert compile_cel(text).holds(NODES, {"region": "DE"}) is holds


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("nodes.a >", 10),
        ("other == 1", 1),
        ("'x' == 1", 5),
        ("1 + 1", 1),
        ("'yes'", 1),
        ("", 1),
        ("x" * 10_001, 10_001),
    ],
)
def test_a_broken_condition_is_refused_with_its_column(text: str, column: int) -> None:
    with pytest.raises(ExpressionRefused) as refused:
        compile_cel(text)
    assert refused.value.column == column
    assert refused.value.message
    assert not isinstance(refused.value, ExpressionFailed)


@pytest.mark.parametrize("text", ["nodes.missing", "nodes.a.x", "nodes.a.x > 'text'", "nodes.a.none == 1"])
def test_a_condition_without_an_answer_fails(text: str) -> None:
    """A missing value is no «false»: the run must not go on as if it knew."""
    with pytest.raises(ExpressionFailed):
        compile_cel(text).holds(NODES, {})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nodes.a.x > 1 && nodes['b-c'] == 'nodes.z'", {"a", "b-c"}),
        ('nodes["q"].nodes.r == 1', {"q"}),
        ("inputs.nodes.a == 1", set()),
        ("has(nodes.k) // nodes.comment", {"k"}),
        ("nodes == {}", set()),
    ],
)
def test_the_names_of_nodes_are_found(text: str, names: set[str]) -> None:
    assert compile_cel(text).names == names


def test_a_node_is_renamed_where_it_is_meant() -> None:
    text = "nodes.a.x > 1 && nodes['a'].y == 'nodes.a' && inputs.nodes.a == nodes.ab"
    assert (
        rename_node(text, "a", "g-1")
        == 'nodes["g-1"].x > 1 && nodes["g-1"].y == \'nodes.a\' && inputs.nodes.a == nodes.ab'
    )


VALUE = {"items": [{"n": 1}, {"n": 2}], "name": "x", "one": [7]}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$sum(items.n)", 3),
        ("items.n", [1, 2]),
        ("one", [7]),
        ("{'all': items, 'name': name}", {"all": [{"n": 1}, {"n": 2}], "name": "x"}),
        ("[1..3]", [1, 2, 3]),
        ("missing", None),
        ("items[n = 2].n", 2),
    ],
)
def test_a_transform_gives_plain_json_of_its_own(text: str, wanted: Any) -> None:
    """Nothing of the result is the library's type, or shared with the input."""
    value = copy.deepcopy(VALUE)
    made = compile_jsonata(text).apply(value)
    assert made == wanted
    assert _types(made) <= {dict, list, str, int, type(None)}
    if isinstance(made, list):
        made.append("more")
    assert value == VALUE


def _types(value: Any) -> set[type]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*(_types(item) for item in inside))


@pytest.mark.parametrize("text", ["a[", "$f(", "(" * 2_000, ""])
def test_a_broken_transform_is_refused(text: str) -> None:
    with pytest.raises(ExpressionRefused) as refused:
        compile_jsonata(text)
    assert refused.value.message


def test_the_place_of_a_broken_transform() -> None:
    with pytest.raises(ExpressionRefused) as refused:
        compile_jsonata("a[")
    assert refused.value.column == 3


@pytest.mark.parametrize(
    "text",
    [
        "$sum('x')",
        "function($x){$x}",
        "1 / 0",
        "( $f := function($n){ 1 + $f($n + 1) }; $f(0) )",
        "[1..100000000]",
        "$eval('1 + 1')",
        "$error('no')",
    ],
)
def test_a_transform_that_cannot_end_well_fails(text: str) -> None:
    """Depth and size are bounded; text from the input is never executed (R6)."""
    with pytest.raises(ExpressionFailed):
        compile_jsonata(text).apply(VALUE)


def test_a_transform_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "TRANSFORM_MS", 50)
    with pytest.raises(ExpressionFailed, match="50 milliseconds"):
        compile_jsonata("( $f := function($n){ $f($n + 1) }; $f(0) )").apply({})


def test_compiled_expressions_are_shared() -> None:
    assert compile_cel("nodes.a == 1") is compile_cel("nodes.a == 1")
    assert compile_jsonata("a.b") is compile_jsonata("a.b")


def test_threads_may_share_a_transform() -> None:
    program, wrong = compile_jsonata("[items.n, name]"), []

    def work(number: int) -> None:
        for _ in range(50):
            made = program.apply({"items": [{"n": number}], "name": number})
            if made != [number, number]:
                wrong.append(made)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.text(max_size=30))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    for compiled in (compile_cel, compile_jsonata):
        refusal = _refusal(compiled, text)
        assert refusal is None or refusal.column is None or refusal.column > 0


def _refusal(compiled: Callable[[str], object], text: str) -> ExpressionRefused | None:
    try:
        compiled(text)
    except ExpressionRefused as refused:
        return refused
    return None
