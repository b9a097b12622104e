"""An exported file is verified by itself, byte for byte (H9)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl.chain import START, item_of, line_of, sealed
from service.exported import verify_excerpt, verify_lines
from store.audit import Mark, SealedRow
from tests.audit.chains import record
from tests.store.making import NOW

Where = st.integers(0, 100_000)


def chain(many: int) -> list[bytes]:
    """The lines of an export, without their ends."""
    head, lines = START, []
    for number in range(many):
        row = record(at=NOW + number, record_id=f"aud_{number}")
        waiting = SealedRow(
            row.record_id,
            row.tenant,
            row.at,
            row.kind,
            row.actor,
            row.run_id,
            row.prompt_id,
            row.body_json,
            None,
            None,
            None,
        )
        placed = sealed(waiting, head)
        head = Mark(placed.seq or 0, placed.hash or "")
        lines.append(line_of(item_of(placed)))
    return lines


def test_a_file_as_it_was_exported_holds() -> None:
    lines = chain(7)
    found = verify_lines([line + b"\n" for line in lines])
    assert (found.broken, found.checked, found.head and found.head.seq) == (None, 7, 7)
    assert verify_lines(lines[3:]).broken is None
    assert verify_lines(lines, 4).checked == 4
    assert verify_lines([]).checked == 0


@settings(deadline=None)
@given(many=st.integers(1, 6), at=Where, bit=st.integers(0, 7))
def test_any_bit_of_the_file(many: int, at: int, bit: int) -> None:
    """H9: one bit, anywhere, line ends apart from the last included."""
    text = bytearray(b"\n".join(chain(many)))
    place = at % len(text)
    text[place] ^= 1 << bit
    assert verify_lines(bytes(text).split(b"\n")).broken is not None


@given(many=st.integers(2, 6), what=st.sampled_from(["delete", "swap", "double", "insert"]), one=Where, other=Where)
def test_lines_that_were_moved(many: int, what: str, one: int, other: int) -> None:
    """H9: a line deleted, two swapped, one there twice, one of another chain put in; the first break is named."""
    lines = chain(many)
    place, second = one % many, other % many
    if what == "delete":
        # Without its first line the file is the rest of a chain; without its last, only a noted hash tells.
        place = 1 + one % (many - 1)
        del lines[place]
        if place == many - 1:
            assert verify_lines(lines).broken is None
            return
        problem, seq = "missing", place + 1
    elif what == "swap":
        second = second if second != place else (place + 1) % many
        lines[place], lines[second] = lines[second], lines[place]
        problem, seq = "reordered", min(place, second) + 1
        if min(place, second) == 0:
            # A file may begin in the middle: what follows tells.
            assert verify_lines(lines).broken is not None
            return
    elif what == "double":
        lines.insert(place, lines[place])
        problem, seq = "inserted", place + 2
    else:
        lines.insert(place, lines[place].replace(b"user:ana", b"user:ben"))
        problem, seq = "inserted", place + 1
    found = verify_lines(lines).broken
    assert found is not None
    assert (found.problem, found.seq) == (problem, seq)


def test_a_cut_file_lacks_the_noted_hash() -> None:
    """H9: whoever kept the hash of the last record notices that the file's end is gone."""
    lines, seen = chain(5), list[str]()
    verify_lines(lines, see=seen.append)
    cut: list[str] = []
    assert verify_lines(lines[:3], see=cut.append).broken is None
    assert (len(seen), len(cut)) == (5, 3)
    assert seen[-1] not in cut


def test_an_excerpt_is_checked_record_by_record() -> None:
    """H9: an export of one run has gaps; each record still vouches for itself, and their order is the chain's."""
    lines = chain(6)
    chosen = [lines[1], lines[2], lines[5]]
    assert verify_lines(chosen).broken is not None
    assert verify_excerpt(chosen).checked == 3
    reordered = verify_excerpt([lines[2], lines[1]]).broken
    assert reordered is not None
    assert (reordered.seq, reordered.problem) == (2, "reordered")
    altered = verify_excerpt([lines[1], lines[2].replace(b"user:ana", b"user:ben")]).broken
    assert altered is not None
    assert (altered.seq, altered.problem) == (3, "changed")


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"1", b"\xff", b'{"seq":1}', b"{" * 2_000])
def test_what_is_no_export(line: bytes) -> None:
    for verify in (verify_lines, verify_excerpt):
        found = verify([line]).broken
        assert found is not None
        assert (found.seq, found.problem) == (1, "changed")
