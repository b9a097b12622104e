"""Envelopes that must be refused: valid ones with one thing broken, and values that never were envelopes (F1, F2)."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.spine.running import call, edge, of, plan

LIMIT = 64 * 1024
"""the body limit of the service these are sent to"""

VALID: dict[str, Any] = {
    "objective": "Do it",
    "inputs": {"spine_who": "Ana"},
    "constraints": {},
    "context": {"story_id": "s", "documents": [], "memory": [], "bundles": [{"type": "x", "payload": 1}]},
    "policies": {
        "planner": {
            "topology": {"variant_count": 1, "max_depth": 5, "max_nodes": 5, "required_kinds": []},
            "selection": {"require": [], "forbid": [], "prefer": [], "avoid": [], "humans": "never"},
            "optimisation": {"objective": "cost"},
        },
        "directives": {},
        "hitl": [{"id": "g", "when": "output", "question": "Q?", "assignees": {"roles": ["operator"]}, "quorum": 1}],
        "runtime": [{"id": "r", "trigger": {"type": "on_validation_fail"}, "action": {"type": "replan"}}],
        "retry": {"max_attempts": 1, "base_ms": 0, "max_ms": 0},
        "timeouts": {"node_seconds": 1, "run_seconds": 1},
        "budget": {"tokens": 1, "cost": 1, "human_asks": 1},
        "concurrency": 1,
        "on_output_invalid": "ask",
    },
    "special_instructions": ["Be kind."],
    "metadata": {},
    "correlation_id": "cid-1",
    "workflow": {"plan": plan(call("a", "noop", 1), call("b", "noop", of("a")), edges=[edge("a", "b")])},
    "output_contract": {"mode": "json_schema", "schema": {"type": "object"}},
}  # fmt: skip
OBJECTS = [
    "", "/context", "/context/bundles/0", "/policies", "/policies/planner", "/policies/planner/topology",
    "/policies/planner/selection", "/policies/planner/optimisation", "/policies/hitl/0", "/policies/hitl/0/assignees",
    "/policies/runtime/0", "/policies/runtime/0/trigger", "/policies/runtime/0/action", "/policies/retry",
    "/policies/timeouts", "/policies/budget", "/workflow", "/output_contract",
]  # fmt: skip
NOT_TEXT: list[Any] = [None, 1, True, [], {}, "", "nul\x00"]
NOT_A_COUNT: list[Any] = ["1", 1.5, -1, 10**30, [], True]
NOT_AN_OBJECT: list[Any] = [1, "x", [], True]
NOT_A_LIST: list[Any] = [1, "x", {}, True, None]
DEEP: Any = 1
for _ in range(300):
    DEEP = {"not": DEEP} if isinstance(DEEP, dict) else {"not": {"type": "string"}}
BROKEN: dict[str, list[Any]] = {
    "/objective": [*NOT_TEXT, "x" * 20_001],
    "/inputs": [*NOT_AN_OBJECT, None, {"x": DEEP}],
    "/constraints": NOT_AN_OBJECT,
    "/metadata": NOT_AN_OBJECT,
    "/context": NOT_AN_OBJECT,
    "/context/story_id": [1, "", "no spaces", "../up", "x" * 200],
    "/context/documents": [*NOT_A_LIST, [1], [""]],
    "/context/bundles": [*NOT_A_LIST, [{}], [{"type": "x"}]],
    "/policies": NOT_AN_OBJECT,
    "/policies/planner/topology/variant_count": [*NOT_A_COUNT, 0],
    "/policies/planner/selection/humans": ["always", 1, None],
    "/policies/planner/selection/require": [*NOT_A_LIST, [1]],
    "/policies/planner/optimisation/objective": ["beauty", 1, None],
    "/policies/hitl": [*NOT_A_LIST, [{}]],
    "/policies/hitl/0/when": ["never", 1, None],
    "/policies/hitl/0/id": [1, None, "", "no spaces", "1st"],
    "/policies/hitl/0/quorum": [*NOT_A_COUNT, 0],
    "/policies/hitl/0/on_timeout": ["escalate", "later", 1],
    "/policies/hitl/0/kind": ["choice", "poem", 1],
    "/policies/hitl/0/due_seconds": [0, -1, "1", 10**9],
    "/policies/hitl/0/assignees": ["ana", [], {"roles": "operator"}],
    "/policies/runtime/0/id": [1, None, "", "no spaces", "1st", "a[0]", "x" * 49],
    "/policies/runtime/0/trigger/type": ["on_full_moon", "", 1, None],
    "/policies/runtime/0/action/type": ["explode", "", 1, None],
    "/policies/retry/max_attempts": [*NOT_A_COUNT, 0, 21],
    "/policies/timeouts/run_seconds": [0, -1, "1", 10**9, None],
    "/policies/budget/human_asks": NOT_A_COUNT,
    "/policies/concurrency": [*NOT_A_COUNT, 0, 257],
    "/policies/on_output_invalid": ["shrug", 1, None],
    "/special_instructions": [*NOT_A_LIST, [1], [""], ["x" * 4_001]],
    "/correlation_id": [1, "", "no spaces", "x" * 201, "é"],
    "/workflow": [*NOT_AN_OBJECT, {}, {"flow_id": "f"}, {"template_id": "t"}, {"plan": {}, "flow_id": "f"}],
    "/workflow/plan": [*NOT_AN_OBJECT, {}, {"nodes": [], "output": {"map": {}}}],
    "/workflow/plan/nodes": [*NOT_A_LIST, [], [{}], [{"node_id": "a"}]],
    "/workflow/plan/nodes/0/kind": ["teleport", 1, None, ""],
    "/workflow/plan/nodes/0/node_id": ["b", "a[0]", "no spaces", 1, ""],
    "/workflow/plan/nodes/0/capability_id": ["spine.nowhere", 1, ""],
    "/workflow/plan/nodes/0/capability_version": ["9.9.9"],
    "/workflow/plan/nodes/1/inputs/value": [{}, {"node_id": "zz"}, {"node_id": "b"}, {"from": "inputs"}, 1],
    "/workflow/plan/edges": [*NOT_A_LIST, [{"from": "a", "to": "zz"}], [{"from": "b", "to": "a"}], [{"from": "a"}]],
    "/workflow/plan/edges/0/condition": ["1 +", "'a'", 7, "", "x" * 3_000],
    "/workflow/plan/output": [*NOT_AN_OBJECT, {"map": {}}, {"map": {"": {"node_id": "zz"}}}],
    "/output_contract": [*NOT_AN_OBJECT, None, {}, {"mode": "poem"}, {"mode": "facets", "facets": ["nowhere"]}],
    "/output_contract/mode": ["poem", 1, None, [], {}],
    "/output_contract/schema": [
        1, "x", [], None, {"type": "strin"}, {"$ref": "https://example.com/x.json"}, {"$ref": "#/$defs/nowhere"},
        {"minItems": -1}, {"pattern": "("}, {"required": "x"}, {"properties": []}, {"$schema": "https://example.com/"},
        DEEP,
    ],
}  # fmt: skip
PAIRS = {"": ("output_contract", "outputContract"), "/policies": ("on_output_invalid", "onOutputInvalid")}
PAIRS |= {"/policies/retry": ("base_ms", "baseMs"), "/context": ("story_id", "storyId")}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
NO_JSON = [b"", b"{", b'{"objective":', b"[1,]", b"nul", b"\xff\xfe", b'{"a":NaN}', b"{'a':1}", b'{"a":1}}', b"\x00"]


@dataclass
class Hostile:
    """A body and where it is broken (None: as a whole)."""

    body: bytes
    at: str | None
    note: str


def parent_of(whole: Any, pointer: str) -> tuple[Any, Any]:
    """The container and the key that a pointer names."""
    *path, last = pointer.split("/")[1:]
    for part in path:
        whole = whole[int(part)] if isinstance(whole, list) else whole[part]
    return whole, int(last) if isinstance(whole, list) else last


def broken(pointer: str, value: Any) -> Hostile:
    """A valid envelope with one value replaced."""
    whole = copy.deepcopy(VALID)
    container, key = parent_of(whole, pointer)
    container[key] = value
    return Hostile(json.dumps(whole).encode(), pointer, f"{pointer} = {str(value)[:60]!r}")


def stranger(pointer: str, name: str) -> Hostile:
    """A valid envelope with a field that nobody knows."""
    whole = copy.deepcopy(VALID)
    target = whole
    if pointer:
        container, key = parent_of(whole, pointer)
        target = container[key]
    target[f"x{name}"] = 1
    escaped = name.replace("~", "~0").replace("/", "~1")
    return Hostile(json.dumps(whole).encode(), f"{pointer}/x{escaped}", f"unknown field in {pointer or 'the envelope'}")


def missing(name: str) -> Hostile:
    """A valid envelope without something required."""
    return Hostile(json.dumps({k: v for k, v in VALID.items() if k != name}).encode(), f"/{name}", f"no {name}")


def twice(pointer: str) -> Hostile:
    """A field in both spellings."""
    snake, camel = PAIRS[pointer]
    whole = copy.deepcopy(VALID)
    target = whole
    if pointer:
        container, key = parent_of(whole, pointer)
        target = container[key]
    target[camel] = target[snake]
    return Hostile(json.dumps(whole).encode(), f"{pointer}/{snake}", "both spellings")


def oversized(where: str, size: int) -> Hostile:
    """More than the service takes."""
    return Hostile(json.dumps(VALID | {where: {"x": "y" * (LIMIT + size)}}).encode(), None, "oversized")


HOSTILE: st.SearchStrategy[Hostile] = st.one_of(
    st.sampled_from(sorted(BROKEN)).flatmap(
        lambda pointer: st.sampled_from(range(len(BROKEN[pointer]))).map(lambda n: broken(pointer, BROKEN[pointer][n]))
    ),
    st.builds(
        stranger,
        st.sampled_from(OBJECTS),
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
    ),
    st.sampled_from(["objective", "output_contract"]).map(missing),
    st.sampled_from(sorted(PAIRS)).map(twice),
    st.builds(oversized, st.sampled_from(["inputs", "metadata"]), st.integers(0, 1_000)),
    ANY_JSON.map(lambda value: Hostile(json.dumps(value).encode(), None, "any JSON")),
    st.sampled_from(NO_JSON).map(lambda body: Hostile(body, None, "no JSON")),
    st.integers(2, len(json.dumps(VALID)) - 1).map(lambda n: Hostile(json.dumps(VALID).encode()[:n], None, "cut off")),
)


def hostile(many: int) -> list[Hostile]:
    """That many, the same in every run."""
    found: list[Hostile] = [broken(pointer, value) for pointer, values in BROKEN.items() for value in values]

    @settings(
        max_examples=many, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(HOSTILE)
    def collect(each: Hostile) -> None:
        found.append(each)

    collect()
    return found
