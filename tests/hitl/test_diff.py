"""What an editor changed is written down exactly (H9): a JSON Patch from what was shown to what was answered."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl.diff import diff

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, "a", "b", "~/"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "b", "~/", ""]), inner),
    max_leaves=12,
)


def applied(value: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply a patch as RFC 6902 says, one operation after the other."""
    whole = {"": orjson.loads(orjson.dumps(value))}
    for each in operations:
        *above, last = ["", *(part.replace("~1", "/").replace("~0", "~") for part in each["path"].split("/")[1:])]
        place: Any = whole
        for part in above:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            if each["op"] in ("remove", "replace"):
                del place[int(last)]
            if each["op"] in ("add", "replace"):
                place.insert(int(last), each["value"])
        elif each["op"] == "remove":
            del place[last]
        else:
            assert (last in place) is (each["op"] == "replace")
            place[last] = each["value"]
    return whole[""]


def same(one: Any, other: Any) -> bool:
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


@settings(max_examples=300, deadline=None)
@given(JSON, JSON)
def test_the_operations_lead_from_one_to_the_other(before: Any, after: Any) -> None:
    """H9."""
    operations = diff(before, after)
    assert same(applied(before, operations), after)
    assert (operations == []) is same(before, after)


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a": 1}, {"a": 1.0}, [{"op": "replace", "path": "/a", "value": 1.0}]),
        ([1, 2, 3], [1, 3], [{"op": "remove", "path": "/1"}]),
        ([1, 3], [1, 2, 3], [{"op": "add", "path": "/1", "value": 2}]),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 2, "c": 2}]}, [{"op": "replace", "path": "/a/0/b", "value": 2}]),
        ({"a/b": 1}, {"a~b": 1}, [{"op": "remove", "path": "/a~1b"}, {"op": "add", "path": "/a~0b", "value": 1}]),
        (1, [1], [{"op": "replace", "path": "", "value": [1]}]),
    ],
)
def test_small_changes_are_small(before: Any, after: Any, operations: list[dict[str, Any]]) -> None:
    """H9: people read it."""
    assert diff(before, after) == operations
