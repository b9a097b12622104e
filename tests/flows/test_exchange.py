"""Export and import in JSON and YAML: nothing is lost, nothing but JSON values gets in (W2, R6)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import FlowInvalid
from service.exchange import from_yaml, to_yaml
from tests.flows.making import codes, document, made, published
from tests.spine.running import Service

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_yaml_comes_back_as_it_went(value: Any) -> None:
    """W2: a round trip changes nothing, not the order of keys and not the type of a number."""
    again = from_yaml(to_yaml(value))
    assert again == value
    assert repr(again) == repr(value)


@given(st.text(max_size=200))
def test_any_text_is_a_json_value_or_refused(text: str) -> None:
    """R6: nothing is executed, and nothing comes out that JSON has no word for."""
    try:
        value = from_yaml(text)
    except FlowInvalid:
        return
    assert _is_json(value)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float | bool)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &x [1]\nb: *x", "yaml_alias"),
        ("a: !!python/object/apply:os.system [ls]", "yaml_tag"),
        ("a: !!timestamp 2026-01-01", "yaml_tag"),
        ("1: x", "yaml_key"),
        ("a: .nan", "bad_number"),
        ("a: [", "bad_yaml"),
        ("a: b\n---\nc: d", "bad_yaml"),
    ],
)
def test_what_json_does_not_have_is_refused_with_its_line(text: str, code: str) -> None:
    with pytest.raises(FlowInvalid) as refused:
        from_yaml(text)
    assert refused.value.errors[0].code == code
    if code.startswith("bad_yaml") or code in ("yaml_alias", "yaml_tag"):
        assert "line" in refused.value.errors[0].message


def test_a_date_stays_the_text_that_it_is() -> None:
    assert from_yaml("at: 2026-01-05\non: yes\nso: true") == {"at": "2026-01-05", "on": "yes", "so": True}


async def test_a_flow_goes_out_and_comes_in_again(service: Service) -> None:
    """W2: JSON and YAML, keys unknown to flex included."""
    body = document(layout={"echo": {"x": 1.5}}, **{"x-owner": ["marketing", None]})
    flow_id = await published(service, body)
    as_json = await service.client.get(f"/api/v1/flows/{flow_id}/export?version=1")
    assert as_json.json() == body
    as_yaml = await service.client.get(f"/api/v1/flows/{flow_id}/export?format=yaml")
    assert as_yaml.headers["content-type"].startswith("application/yaml")
    assert yaml.safe_load(as_yaml.text) == body
    for sent, media in ((as_json.content, "application/json"), (as_yaml.content, "application/yaml")):
        answer = await service.client.post("/api/v1/flows/import", content=sent, headers={"Content-Type": media})
        assert (answer.status_code, answer.json()["draft"]) == (201, body)
    broken = await service.client.post(
        "/api/v1/flows/import", content=b"a: [", headers={"Content-Type": "application/yaml"}
    )
    assert (broken.status_code, codes(broken)) == (422, [("", "bad_yaml")])
    latin = await service.client.post(
        "/api/v1/flows/import", content=b"a: \xff", headers={"Content-Type": "application/yaml"}
    )
    assert (latin.status_code, codes(latin)) == (422, [("", "bad_yaml")])


async def test_who_uses_a_flow_can_be_read(service: Service) -> None:
    """W2: deleting what others run would break them."""
    flow = await made(service)
    usage = await service.client.get(f"/api/v1/flows/{flow['flow_id']}/usage")
    assert usage.json() == {"items": [], "runs": []}
