"""Whatever is done to a sealed chain, verifying finds it and says where (H9); other tenants' chains still hold."""

import asyncio
import itertools
import string
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitl.chain import START
from hitl.sealing import Sealer
from service.verifying import ChainCheck, Verdict
from store.audit import Mark, SealedRow
from store.connect import Database
from store.tables import audit_heads, audit_records
from tests.audit.chains import (
    R,
    added,
    chained,
    change,
    do,
    forged,
    head,
    opened,
    record,
    renumber,
    rows_of,
    verdict,
)  # fmt: skip
from tests.store.making import NOW

_numbers = itertools.count(1)
EFFORT = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = ("record_id", "kind", "actor", "run_id", "prompt_id", "body_json", "previous", "hash")
Where = st.integers(0, 10_000)
Deed = Callable[[Database, list[SealedRow]], Awaitable[tuple[set[str], int]]]
"""Does it, and returns what may be said about it and at which record."""


def tampered(url: str, many: int, deed: Deed) -> None:
    """Seal a chain beside another tenant's, tamper with it, and see what verifying says."""

    async def example() -> None:
        name = f"t{next(_numbers)}"
        async with opened(url) as database:
            rows = await chained(database, name, many)
            await chained(database, f"{name}-other", 3)
            assert (await verdict(database, name)).broken is None
            allowed, place = await deed(database, rows)
            found = await verdict(database, name)
            assert found.broken is not None
            assert (found.broken.problem in allowed, found.broken.seq) == (True, place), found.broken
            assert found.broken.message
            assert (await verdict(database, f"{name}-other")).checked == 3
            assert (await verdict(database, f"{name}-other")).broken is None

    asyncio.run(example())


@EFFORT
@given(
    many=st.integers(1, 8),
    which=Where,
    column=st.sampled_from(TEXTS),
    at=Where,
    to=st.sampled_from(string.printable[:62]),
)
def test_any_byte_of_any_column(database_url: str, many: int, which: int, column: str, at: int, to: str) -> None:
    """H9: one character, anywhere."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        row = rows[which % many]
        text = getattr(row, column)
        place = at % len(text)
        other = to if text[place] != to else "_"
        values = {column: text[:place] + other + text[place + 1 :]}
        await do(database, change(row.record_id, **values))
        return {"changed"}, row.seq or 0

    tampered(database_url, many, deed)


@EFFORT
@given(
    many=st.integers(1, 8),
    which=Where,
    column=st.sampled_from(("run_id", "prompt_id", "at", "tenant", "seq")),
    by=st.integers(1, 99),
)
def test_any_other_value(database_url: str, many: int, which: int, column: str, by: int) -> None:
    """H9: a null for a text, another time, another tenant, another number or none."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        row = rows[which % many]
        value: Any = {
            "at": row.at + by, "tenant": f"{row.tenant}-elsewhere", "seq": None if by % 2 else 1_000 + by,
        }.get(column)  # fmt: skip
        await do(database, change(row.record_id, **{column: value}))
        moved = column in ("tenant", "seq")
        return {"missing", "reordered"} if moved else {"changed"}, row.seq or 0

    tampered(database_url, many, deed)


@EFFORT
@given(many=st.integers(1, 8), first=Where, count=st.integers(1, 8), renumbered=st.booleans())
def test_deleting(database_url: str, many: int, first: int, count: int, renumbered: bool) -> None:
    """H9: one record or several, the first, one in the middle, the last; with the others moved up or not."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        start = first % many
        gone, rest = rows[start : start + count], rows[start + count :]
        await do(database, *(sa.delete(audit_records).where(R.record_id == row.record_id) for row in gone))
        if renumbered:
            await renumber(database, rest, -len(gone))
            await do(database, head(rows[0].tenant, seq=many - len(gone)))
        if renumbered and not rest:
            # The head has the hash of a record that is not there.
            return ({"changed"}, start) if start else ({"changed"}, 0)
        return {"missing"}, start + 1

    tampered(database_url, many, deed)


@EFFORT
@given(many=st.integers(2, 8), one=Where, other=Where)
def test_swapping(database_url: str, many: int, one: int, other: int) -> None:
    """H9: two records in each other's place."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        a, b = rows[one % many], rows[other % many]
        if a is b:
            b = rows[(other + 1) % many]
        await do(database, change(a.record_id, seq=-1), change(b.record_id, seq=a.seq), change(a.record_id, seq=b.seq))
        return {"reordered"}, min(a.seq or 0, b.seq or 0)

    tampered(database_url, many, deed)


@EFFORT
@given(many=st.integers(2, 8), source=Where, target=Where)
def test_moving(database_url: str, many: int, source: int, target: int) -> None:
    """H9: one record somewhere else, the ones between moved up or down."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        order = list(rows)
        moved = order.pop(source % many)
        place = target % many if target % many != source % many else (target + 1) % many
        order.insert(place, moved)
        await do(database, *(change(row.record_id, seq=-1 - number) for number, row in enumerate(rows)))
        await do(database, *(change(row.record_id, seq=number) for number, row in enumerate(order, 1)))
        return {"reordered"}, min(source % many, place) + 1

    tampered(database_url, many, deed)


@EFFORT
@given(many=st.integers(1, 8), at=Where, linked=st.booleans(), head_too=st.booleans())
def test_inserting(database_url: str, many: int, at: int, linked: bool, head_too: bool) -> None:
    """H9: a forged record, even with a hash that fits it and the head moved on, the ones behind it moved down."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        place = at % many + 1
        await renumber(database, rows[place - 1 :], 1)
        template = rows[place - 1]
        previous = template.previous if linked else "f" * 64
        values = forged(
            template, record_id=f"forged-{template.record_id}", seq=place, previous=previous, actor="user:ben"
        )
        await do(database, sa.insert(audit_records).values(values))
        if head_too:
            await do(database, head(template.tenant, seq=many + 1))
        return {"inserted"}, place

    tampered(database_url, many, deed)


@EFFORT
@given(many=st.integers(1, 8), at=Where)
def test_rewriting_with_a_hash_that_fits(database_url: str, many: int, at: int) -> None:
    """H9: who changes a record and computes its hash anew is found by the record behind it, or by the head."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        row = rows[at % many]
        await do(database, change(row.record_id, **forged(row, body_json='{"action":"reject"}')))
        return {"changed"}, row.seq or 0

    tampered(database_url, many, deed)


@EFFORT
@given(many=st.integers(1, 8), what=st.sampled_from(["hash", "more", "less", "none"]))
def test_the_head(database_url: str, many: int, what: str) -> None:
    """H9: a head that says something else than the chain."""

    async def deed(database: Database, rows: list[SealedRow]) -> tuple[set[str], int]:
        tenant = rows[0].tenant
        match what:
            case "hash":
                await do(database, head(tenant, hash="e" * 64))
                return {"changed"}, many
            case "more":
                await do(database, head(tenant, seq=many + 2))
                return {"missing"}, many + 1
            case "less":
                await do(database, head(tenant, seq=many - 1))
                return {"inserted"}, many
            case _:
                await do(database, sa.delete(audit_heads).where(audit_heads.c.tenant == tenant))
                return {"missing"}, many

    tampered(database_url, many, deed)


async def test_a_chain_rewritten_to_its_end_is_found_by_a_hash_kept_elsewhere(database_url: str) -> None:
    """H9: who can write everything, heads too, can forge a chain that holds; a hash noted before gives it away."""
    async with opened(database_url) as database:
        rows = await chained(database, "default", 5)
        noted = rows[3].hash
        await do(database, sa.delete(audit_records).where(R.seq > 3))
        await do(database, head("default", seq=3, hash=rows[2].hash))
        seen: list[str] = []
        found = await ChainCheck(database, "default", seen.append).verify()
        assert found == Verdict(3, Mark(3, rows[2].hash or ""), None)
        assert noted not in seen
        assert seen == [START.hash, *(row.hash for row in rows[:3])]


async def test_verifying_goes_on_where_it_stopped(database_url: str) -> None:
    """P3: bounded work per request; a break is found from the piece it is in, whichever piece one begins with."""
    async with opened(database_url) as database:
        rows = await chained(database, "default", 20)
        places: list[int | None] = [None]
        while (found := await ChainCheck(database, "default").verify(places[-1], most=6)).next_seq is not None:
            assert (found.broken, found.checked) == (None, 6)
            places.append(found.next_seq)
        assert places == [None, 7, 13, 19]
        assert (found.broken, found.checked) == (None, 2)
        await do(database, change(rows[14].record_id, actor="user:ben"))
        broken = [(await ChainCheck(database, "default").verify(place, most=6)).broken for place in places]
        assert [None if each is None else each.seq for each in broken] == [None, None, 15, None]


async def test_sealing_goes_on_behind_a_broken_place(database_url: str) -> None:
    """H9: a broken chain is reported, not abandoned: new records are sealed, the first broken one is still told."""
    async with opened(database_url) as database:
        rows = await chained(database, "default", 4)
        await do(database, change(rows[1].record_id, actor="user:ben"))
        await added(database, record(at=NOW + 99))
        assert await Sealer(database).tick() == 1
        found = await verdict(database, "default")
        assert found.broken is not None
        assert (found.broken.seq, found.broken.problem, found.broken.record_id) == (2, "changed", rows[1].record_id)
        assert len(await rows_of(database, "default")) == 5


@pytest.mark.parametrize("many", [0, 1])
async def test_short_chains_hold(database_url: str, many: int) -> None:
    async with opened(database_url) as database:
        await chained(database, "default", many)
        found = await verdict(database, "default")
        assert (found.broken, found.checked, found.next_seq) == (None, many, None)
