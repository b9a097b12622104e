"""Both validators and the compiled schema give every case file's verdict, in both drafts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from contracts.schema import compile_schema
from contracts.schema_drafts import DRAFTS
from contracts.schema_explain import python_findings

CASES = Path(__file__).parent / "schema_cases"


def _cases() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("*/*.json")):
        for group in orjson.loads(path.read_bytes()):
            for test in group["tests"]:
                name = f"{path.parent.name}/{path.stem}: {group['description']}: {test['description']}"
                found.append(pytest.param(path.parent.name, group["schema"], test["data"], test["valid"], id=name))
    return found


ALL = _cases()


@pytest.mark.parametrize(("draft", "schema", "data", "valid"), ALL)
def test_both_validators_give_the_expected_verdict(draft: str, schema: Any, data: Any, valid: bool) -> None:
    compiled = compile_schema(schema)
    if isinstance(schema, dict):
        assert compiled.draft == draft
    assert compiled.is_valid(data) is valid, "jsonschema-rs"
    language = next(each for each in DRAFTS if each.name == compiled.draft)
    document = compiled._document
    assert (python_findings(language, document, data) == []) is valid, "jsonschema"
    assert (compiled.explain(data) == []) is valid


def test_there_are_many_cases_for_each_draft() -> None:
    drafts = [case.values[0] for case in ALL]
    assert len(ALL) >= 250
    assert drafts.count("draft7") >= 100
    assert drafts.count("draft2020-12") >= 100
