"""Release notes from a commit log, offline (wire §6 B)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import CapabilityError
from capabilities.log_parse import MAX_RECORDS, TYPES, log_parse
from capabilities.registry import Registry
from capabilities.release_facets import CHANGE_GROUPS, CHANGE_RECORDS, RELEASE_SECTIONS, RELEASE_SUMMARY
from capabilities.release_notes import notes_write, records_group
from contracts.schema import compile_schema
from tests.capabilities.calls import run

HASH = "1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d"

DEFAULT = f"""commit {HASH} (HEAD -> main, tag: v1.0, origin/main)
Author: Ana Beck <ana@example.com>
Date:   Mon Jan 5 09:00:00 2026 +0000

    feat(api)!: new endpoint (#12)

    Why it is there.

    BREAKING CHANGE: the old one is gone

 src/a.py | 3 +--
 1 file changed, 1 insertion(+)

commit 2{HASH[1:]}
Merge: 1a2b3c4 2b3c4d5
Author: Ben
Date:   Sun Jan 4 09:00:00 2026 +0000

    Merge branch 'topic'

commit 3{HASH[1:]}
Author: Ben

    Revert "feat: y"

    This reverts commit {HASH}.
"""

ONELINE = """a1b2c3d (HEAD -> main, origin/main) feat: add x
* b1b2c3d fix(core): handle y
| * c1b2c3d (tag: v2) chore: bump z
|/
d1b2c3d (fix the paren) plain subject
- docs: explain q

1. Perf: go fast
"""


def test_the_default_format() -> None:
    first, merge, revert = log_parse(DEFAULT)
    assert first == {
        "hash": HASH, "type": "feat", "scope": "api", "subject": "new endpoint (#12)", "breaking": True,
        "author": "Ana Beck", "date": "Mon Jan 5 09:00:00 2026 +0000",
        "body": "Why it is there.\n\nBREAKING CHANGE: the old one is gone",
    }  # fmt: skip
    assert (merge["type"], merge["author"], merge["breaking"]) == ("merge", "Ben", False)
    assert (revert["type"], revert["subject"]) == ("revert", 'Revert "feat: y"')


def test_the_default_format_with_a_graph() -> None:
    graph = "\n".join(("* " if line.startswith("commit") else "| ") + line for line in DEFAULT.splitlines())
    assert log_parse(graph) == log_parse(DEFAULT)


def test_one_line_each_with_graph_decoration_and_bullets() -> None:
    assert [(each["type"], each["subject"], each.get("hash"), each.get("scope")) for each in log_parse(ONELINE)] == [
        ("feat", "add x", "a1b2c3d", None),
        ("fix", "handle y", "b1b2c3d", "core"),
        ("chore", "bump z", "c1b2c3d", None),
        ("other", "(fix the paren) plain subject", "d1b2c3d", None),
        ("docs", "explain q", None, None),
        ("perf", "go fast", None, None),
    ]


@pytest.mark.parametrize(
    ("subject", "kind", "said", "breaking"),
    [
        ("feat: x", "feat", "x", False),
        ("FIX: x", "fix", "x", False),
        ("refactor(db)!: x", "refactor", "x", True),
        ("wip(ui): x", "wip", "x", False),
        ("Note: something", "other", "Note: something", False),
        ("https://example.com is down", "other", "https://example.com is down", False),
        ("feat:x", "other", "feat:x", False),
        ("Merge pull request #3 from a/b", "merge", "Merge pull request #3 from a/b", False),
    ],
)
def test_subjects_as_conventional_commits(subject: str, kind: str, said: str, breaking: bool) -> None:
    (record,) = log_parse(f"abc1234 {subject}")
    assert (record["type"], record["subject"], record["breaking"]) == (kind, said, breaking)


def test_nothing_and_too_much() -> None:
    assert log_parse("") == []
    assert log_parse(" \n\n") == []
    with pytest.raises(CapabilityError, match="log_too_long"):
        log_parse("x\n" * (MAX_RECORDS + 1))


_subject = st.from_regex(r"[a-z][a-z ]{0,30}[a-z]", fullmatch=True)
_commit = st.tuples(
    st.from_regex(r"[0-9a-f]{40}", fullmatch=True), st.sampled_from(sorted(TYPES)), _subject, st.booleans()
)


@given(st.lists(_commit, max_size=8))
def test_both_formats_of_the_same_commits_say_the_same(commits: list[tuple[str, str, str, bool]]) -> None:
    long = "\n".join(
        f"commit {name}\nAuthor: A <a@b>\nDate:   now\n\n    {kind}{'!' * loud}: {subject}\n"
        for name, kind, subject, loud in commits
    )
    short = "\n".join(f"{name} {kind}{'!' * loud}: {subject}" for name, kind, subject, loud in commits)
    expected = [(name, TYPES[kind], subject, loud) for name, kind, subject, loud in commits]
    for text in (long, short):
        found = [(each["hash"], each["type"], each["subject"], each["breaking"]) for each in log_parse(text)]
        assert found == expected


@given(st.one_of(st.text(), st.lists(st.sampled_from([*DEFAULT.splitlines(), *ONELINE.splitlines()])).map("\n".join)))
async def test_any_text_goes_through_all_three_steps(text: str) -> None:
    records = log_parse(text)
    assert compile_schema(CHANGE_RECORDS.schema).explain(records) == []
    groups = await records_group(records)
    assert compile_schema(CHANGE_GROUPS.schema).explain(groups) == []
    assert sum(len(group["changes"]) for group in groups) == sum(each["type"] != "merge" for each in records)
    notes = await notes_write(groups)
    assert set(notes) == {"release_sections", "release_summary"}
    assert compile_schema(RELEASE_SECTIONS.schema).explain(notes["release_sections"]) == []
    assert compile_schema(RELEASE_SUMMARY.schema).is_valid(notes["release_summary"])
    items = [item for section in notes["release_sections"] for item in section["items"]]
    assert len(items) == sum(len(group["changes"]) for group in groups)


@pytest.mark.parametrize(
    "piece", ["(" * 2_000, ") " * 40_000, " " * 90_000 + "x", "commit " * 9_000, "a (((" * 9_000, "<" * 90_000]
)
def test_hostile_lines_take_no_time(piece: str) -> None:
    """Expressions that go back and forth over a long line would hold the whole service up."""
    assert len(log_parse(f"commit {HASH} {piece}\nAuthor: {piece}\n\n    {piece}\n{piece}\n")) <= 4
    assert len(log_parse(f"abc1234 {piece}")) <= 1


async def test_release_notes_read_well() -> None:
    registry = Registry()
    records = await run(registry, "log.parse", {"log": DEFAULT + "\n    x\n" + ONELINE})
    assert records
    groups = await run(registry, "records.group", {"records": log_parse(ONELINE)})
    said: dict[str, Any] = await run(registry, "notes.write", {"groups": groups})
    assert [section["title"] for section in said["release_sections"]] == [
        "Features", "Fixes", "Performance", "Documentation", "Other changes", "Maintenance",
    ]  # fmt: skip
    assert said["release_summary"] == (
        "This release brings 1 feature, 1 fix, 1 performance improvement and 3 other changes. It starts with: Add x."
    )
    loud = await notes_write(await records_group(log_parse("feat!: a\nfix: b")))
    assert loud["release_sections"][0] == {"title": "Breaking changes", "items": ["A"]}
    assert "One of them is breaking." in loud["release_summary"]
    assert (await notes_write([]))["release_summary"] == "This release has no changes."
