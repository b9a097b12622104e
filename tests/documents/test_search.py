"""Search in a story's documents: the same passages, marks and order on both databases (R4, W5)."""

from __future__ import annotations

from typing import Any

import pytest

from store.documents import FoundRow
from stories.search import ranked
from tests.documents.making import LETTER, place, stored
from tests.spine.running import Service


async def found(service: Service, query: str, story_id: str = "spring", **more: Any) -> list[dict[str, Any]]:
    """Search."""
    answer = await service.client.get(place(story_id, "", "/search"), params={"q": query, **more})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_passages_say_where_they_are_and_what_was_found(service: Service) -> None:
    """R4: place, version, offsets into the document's text and into the passage."""
    text = "\n\n".join(f"Paragraph {number}. " + "filler " * 100 for number in range(5)) + "\n\nThe refund takes days."
    await stored(service, "spring", "terms", text)
    (hit,) = await found(service, "REFUND")
    assert (hit["document_id"], hit["version"]) == ("terms", 1)
    whole = (await service.client.get(place("spring", "terms", "/text"))).text
    assert whole[hit["start"] : hit["end"]] == hit["text"]
    assert [hit["text"][start:end] for start, end in hit["highlights"]] == ["refund"]
    assert hit["place"] == 3
    assert hit["score"] > 1


async def test_more_of_the_words_is_better_than_fewer(service: Service) -> None:
    """W5: a question in plain words finds what has most of them first."""
    await stored(service, "spring", "a", "The refund is for bakers only.")
    await stored(service, "spring", "b", "Refund refund refund.")
    await stored(service, "spring", "c", "Nothing of that kind.")
    hits = await found(service, "which refund do the bakers get?")
    assert [hit["document_id"] for hit in hits] == ["a", "b"]
    assert [hit["document_id"] for hit in await found(service, "refund bakers", limit=1)] == ["a"]


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("Straße und Grüße", "STRASSE", ["Straße"]),
        ("Viele Grüße", "grüße", ["Grüße"]),
        ("see foo.example.com/a_b now", "example", ["example"]),
        ("mail ana@example.com", "ana", ["ana"]),
        ("up to 3.5 per cent, e-mail", "mail 5", ["5", "mail"]),
        ("wir fahren nach 東京都 heute", "京", ["京"]),
        ("it's O'Brien \"quoted\" NEAR(x) AND OR NOT", "o'brien OR not", ["O", "Brien", "OR", "NOT"]),
    ],
)
async def test_words_are_words_on_both_databases(service: Service, text: str, query: str, marked: list[str]) -> None:
    """P1: neither database's own parser has a say; operators of theirs are words like others."""
    await stored(service, "spring", "a", text)
    (hit,) = await found(service, query)
    assert [hit["text"][start:end] for start, end in hit["highlights"]] == marked


async def test_only_the_newest_version_is_found_and_nothing_deleted(service: Service) -> None:
    """R4: passages follow their document."""
    await stored(service, "spring", "a", "The old refund")
    await stored(service, "spring", "a", "The new price")
    await stored(service, "autumn", "a", LETTER)
    assert await found(service, "refund") == []
    assert [hit["version"] for hit in await found(service, "price")] == [2]
    assert len(await found(service, "refund", "autumn")) == 1, "another story's is found there"
    await service.client.delete(place("spring", "a"))
    assert await found(service, "price") == []


@pytest.mark.parametrize("query", ["", "...", "x" * 501])
async def test_a_search_that_cannot_be(service: Service, query: str) -> None:
    answer = await service.client.get(place("spring", "", "/search"), params={"q": query})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")
    assert (await service.client.get(place("spring", "", "/search"))).status_code == 400


def test_the_ranking_is_one_function() -> None:
    """Rare words weigh more, repetition stops to count, and equals stand by name."""
    rows = [FoundRow(name, 1, 0, 0, words, words) for name, words in (
        ("b", "rare common"), ("a", "rare common"), ("c", "common common common common"), ("d", "rare"),
        ("e", "common"), ("f", "common and more of that kind"),
    )]  # fmt: skip
    assert [row.document_id for row, _ in ranked(rows, ["rare", "common"])] == ["a", "b", "d", "c", "e", "f"]
    assert ranked([], ["rare"]) == []
