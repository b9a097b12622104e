"""What the command line shows: pure functions on frames and plans as the service encodes them."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from app.commands import text as shown
from app.commands.plan_view import finding_lines, next_steps, plan_notes, plan_tree
from app.commands.screen import Screen, table
from app.commands.timeline import Timeline
from contracts import events as e
from contracts.events import EVENTS
from tests.cli.recorded import EVERY, FINDING, PLAN, PROMPT, frame


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(event: e.Event, node_id: str | None = None) -> list[str]:
    return [line.text for line in Timeline().lines(frame(event, 1, node_id=node_id))]


def test_every_kind_of_frame_is_shown_on_lines_of_its_own() -> None:
    """F7: no type is forgotten; node_delta is shown as it comes, not as a line."""
    assert {type(event) for event, _ in EVERY} == set(EVENTS)
    for event, node_id in EVERY:
        lines = lines_of(event, node_id)
        assert bool(lines) is not isinstance(event, e.NodeDelta)
        assert all(line and "\n" not in line for line in lines)


def test_unknown_types_are_ignored() -> None:
    """Wire §4: ignore unknown ones."""
    assert Timeline().lines({**frame(EVERY[0][0], 1), "type": "from_the_future"}) == []


@pytest.mark.parametrize(
    ("event", "node_id", "expected"),
    [
        (e.NodeRetry(1, 2, 200, "output_invalid", "too short"), "notes", ["notes  attempt 2 in 200 ms: too short"]),
        (e.NodeStart(1, "call", "notes.write", False), "notes", ["notes  notes.write"]),
        (e.NodeStart(2, "ask", None, True), "sign_off", ["sign_off  ask, attempt 2, resumed"]),
        (e.HitlResolved("prm_01", "expired", None), "sign_off", ["sign_off  expired without a decision"]),
        (e.RunWaiting(["hitl"], ["prm_01"], None), None, ["waiting for people"]),
        (
            e.Complete({}, 900, 60_000, {"tokens": 7, "cost": 0.5}),
            None,
            ["complete in 900 ms, waited 1 min 0 s, 7 tokens, cost 0.5"],
        ),
        (e.Complete({}, 900, 0, {"tokens": 0, "cost": 0}), None, ["complete in 900 ms"]),
        (
            e.Failed("node_failed", "no", "x", [{"pointer": "/a", "message": "bad"}], True),
            None,
            ["failed at x: no (node_failed)", "/a: bad"],
        ),
        (e.Cancelled("user:ana", None), None, ["cancelled by user:ana"]),
        (
            e.PlanRejected(1, [FINDING]),
            None,
            [
                "no plan in round 1",
                "missing_facet at /variants: company_profile is missing.",
                "  try: Give a bundle company_profile.",
            ],
        ),
    ],
)
def test_a_line_says_what_a_person_needs(event: e.Event, node_id: str | None, expected: list[str]) -> None:
    """F8: a failure has its code, a message and the node."""
    assert lines_of(event, node_id) == expected


def test_the_timeline_knows_what_is_open_and_counts_from_the_first_frame() -> None:
    timeline = Timeline()
    timeline.lines(frame(EVERY[0][0], 1, at_ms=5))
    timeline.lines(frame(e.HitlRequest(PROMPT), 2, node_id="sign_off"))
    waiting = timeline.lines(frame(e.RunWaiting(["hitl"], ["prm_01"], None), 3, at_ms=1_505))
    assert waiting[0].at_ms == 1_500
    assert list(timeline.open_prompts) == ["prm_01"]
    assert timeline.waiting_on == ["hitl"]
    timeline.lines(frame(e.HitlResolved("prm_01", "withdrawn", None), 4))
    timeline.lines(frame(e.RunResumed("decision"), 5))
    assert (timeline.open_prompts, timeline.waiting_on) == ({}, [])


@given(st.text())
def test_nothing_that_is_shown_can_steer_the_terminal(text: str) -> None:
    """R6: a question may hold escape sequences or marks that turn text around; none reaches the terminal."""
    hostile = f"\x1b[2J\x9b31m\u202e{text}\r\x07"
    for found in (shown.clean(hostile), shown.pretty({"a": hostile}), shown.compact([hostile]), shown.line(hostile)):
        assert not any(
            (ord(char) < 32 and char not in "\n\t") or 0x7F <= ord(char) < 0xA0 or char == "\u202e" for char in found
        )
    for event in (
        e.HitlRequest({**PROMPT, "question": hostile}),
        e.Failed("x", hostile, hostile, [hostile], False),
        e.Log("info", hostile),
    ):
        assert all("\x1b" not in line and "\x9b" not in line for line in lines_of(event, "n"))


@given(st.floats(0, 1e9))
def test_durations_are_short(milliseconds: float) -> None:
    assert len(shown.duration(milliseconds)) <= 16


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (61_000, "1 min 1 s"), (7_500_000, "2 h 5 min")],
)
def test_durations(milliseconds: int, expected: str) -> None:
    assert shown.duration(milliseconds) == expected


def rendered(thing: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(thing)
    return stream.getvalue()


def test_a_plan_is_a_tree_with_its_reasons() -> None:
    """F4: every node with what it reads and why; a node with two predecessors stands once."""
    tree = rendered(plan_tree(PLAN))
    for part in (
        "groups  call records.group",
        "log ← /inputs/log_text",
        "groups ← groups",
        "count ← 2",
        "because: alias of /variants; only producer",
        "sign_off  ask sign_off  (also after groups)",
    ):
        assert tree.count(part) >= 1, part
    assert tree.count("sign_off  ask") == 1
    assert plan_notes(PLAN) == [
        "goal /variants: copy_variants; checked at run time: /items/minLength",
        "goal /title: headline; its type proves that it fits",
        "answer /variants ← notes",
        "not used: /inputs/goal",
        "estimate: 1.2 s, 120 tokens, cost 0.5",
    ]


def test_a_cycle_still_ends() -> None:
    """A plan that was never validated must not hang the screen."""
    edges = [{"from": "groups", "to": "notes"}, {"from": "notes", "to": "groups"}, {"from": "ghost", "to": "notes"}]
    tree = rendered(plan_tree({**PLAN, "edges": edges}))
    assert all(name in tree for name in ("groups", "notes", "sign_off"))


def test_a_refusal_says_what_to_do_next() -> None:
    """R9: the remedy of the finding, a model, a person, a capability."""
    assert finding_lines([FINDING]) == [
        ("missing_facet at /variants: company_profile is missing.", "red"),
        ("  try: Give a bundle company_profile.", "yellow"),
    ]
    steps = "\n".join(next_steps([{"code": "no_structurer"}]))
    assert all(part in steps for part in ("FLEX_MODEL_BASE_URL", "last_resort", "--capabilities"))
    assert "FLEX_MODEL_BASE_URL" not in "\n".join(next_steps([FINDING]))


def test_a_terminal_gets_lines_that_fit_and_a_pipe_gets_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Width-safe: cut at the width of a terminal, never in a file; no colours with NO_COLOR."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    long = e.Log("info", "word " * 40)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Screen(stream, stream).timeline(Timeline().lines(frame(long, 1, node_id="n")))
    assert len(terminal.getvalue().splitlines()) == 1
    assert len(re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).rstrip("\n")) <= 40
    assert "\x1b[3" not in terminal.getvalue()
    assert pipe.getvalue().count("word") == 40
    assert len(pipe.getvalue().splitlines()) == 1


def test_a_stream_that_knows_no_unicode_gets_plain_marks() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    screen = Screen(stream, stream)
    screen.timeline(Timeline().lines(frame(e.NodeComplete(1, 12, []), 1, node_id="n")))
    screen.say("é ←")
    screen.show(table(("a",), [["←"]]))
    screen.result({"a": "é"})
    stream.flush()
    assert b"+ n  12 ms" in raw.getvalue()


def test_deltas_are_one_line_per_node_on_a_terminal_and_nothing_in_a_pipe() -> None:
    """Wire §4: node_delta is ephemeral."""
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        screen = Screen(stream, stream)
        screen.delta("a", "one ", 0)
        screen.delta("a", "two", 4)
        screen.delta("b", "three", 0)
        screen.say("done")
    assert pipe.getvalue() == "done\n"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert [line.strip() for line in lines] == ["a: one two", "b: three", "done"]


def test_ids_in_tables_are_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    pipe = io.StringIO()
    Screen(pipe, pipe).show(table(("run_id", "n"), [["run_" + "X" * 60, None]]))
    assert "run_" + "X" * 60 in pipe.getvalue()


def test_a_text_answer_is_printed_as_it_is_and_json_indented() -> None:
    """`flex run … > answer.md` holds the answer alone."""
    for value, expected in (("# Title\ntext", "# Title\ntext\n"), ({"a": [1]}, '{\n  "a": [\n    1\n  ]\n}\n')):
        pipe = io.StringIO()
        Screen(pipe, io.StringIO()).result(value)
        assert pipe.getvalue() == expected
