"""Documents over HTTP: versions, entity tags, what is refused, and what belongs to whom (R4, R6)."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from contracts.access import Principal
from contracts.errors import DocumentNotFound
from service.conditions import Conditions
from service.documents import Upload
from tests.documents.making import LETTER, place, put, stored
from tests.flows.making import codes
from tests.spine.running import Service, serving

BEN = Principal(subject="user:ben", tenant="other", roles=frozenset({"admin"}))


async def test_a_document_is_put_read_and_deleted(service: Service) -> None:
    """R4: 201 with its place, 200 for the next version; content and text come back; after the deletion nothing."""
    first = await put(service, "spring", "letter", LETTER, "text/plain; charset=utf-8")
    assert (first.status_code, first.headers["etag"], first.headers["location"]) == (
        201,
        '"1"',
        place("spring", "letter"),
    )
    shown = first.json()
    assert shown == {
        "story_id": "spring", "document_id": "letter", "version": 1, "media_type": "text/plain",
        "bytes": len(LETTER), "digest": sha256(LETTER.encode()).hexdigest(), "text_status": "ready",
        "text_error": None, "characters": len(LETTER.strip()), "truncated": False, "created_by": "user:local",
        "created_at": shown["created_at"], "links": shown["links"],
    }  # fmt: skip
    read = await service.client.get(place("spring", "letter"))
    assert (read.status_code, read.json(), read.headers["etag"]) == (200, shown, '"1"')
    content = await service.client.get(shown["links"]["content"])
    assert (content.text, content.headers["content-type"]) == (LETTER, "text/plain; charset=utf-8")
    assert content.headers["content-disposition"] == 'attachment; filename="letter"'
    assert (content.headers["x-content-type-options"], "sandbox" in content.headers["content-security-policy"]) == (
        "nosniff", True,
    )  # fmt: skip
    assert (await service.client.get(place("spring", "letter", "/text"))).text == LETTER.strip()
    second = await put(service, "spring", "letter", "Another")
    assert (second.status_code, second.json()["version"], second.headers["etag"]) == (200, 2, '"2"')
    assert (await service.client.delete(place("spring", "letter"))).status_code == 204
    for below in ("", "/content", "/text", "/versions", "/versions/1"):
        gone = await service.client.get(place("spring", "letter", below))
        assert (gone.status_code, gone.json()["code"]) == (404, "document_not_found"), below
    assert (await service.client.delete(place("spring", "letter"))).status_code == 404
    again = await put(service, "spring", "letter", LETTER)
    assert (again.status_code, again.headers["etag"]) == (201, '"3"'), "an ETag never comes back with other content"


async def test_versions_never_change_and_old_ones_go(sqlite_url: str) -> None:
    """R4: as many as the setting says are kept; equal content is no version."""
    async with serving(sqlite_url, document_versions=2) as service:
        for text in ("one", "two", "two", "three"):
            await stored(service, "spring", "letter", text)
        page = (await service.client.get(place("spring", "letter", "/versions"))).json()
        assert [each["version"] for each in page["items"]] == [3, 2]
        assert page["next_before"] is None
        assert (await service.client.get(place("spring", "letter", "/content?version=2"))).text == "two"
        old = await service.client.get(place("spring", "letter", "/versions/1"))
        assert (old.status_code, old.json()["code"]) == (404, "document_version_not_found")
        first = (await service.client.get(place("spring", "letter", "/versions?limit=1"))).json()
        rest = (await service.client.get(place("spring", "letter", f"/versions?before={first['next_before']}"))).json()
        assert [each["version"] for each in (*first["items"], *rest["items"])] == [3, 2]


async def test_entity_tags_are_heeded(service: Service) -> None:
    """RFC 9110 §13: who has read a version that is not the newest writes nothing over."""
    assert (await put(service, "spring", "a", "1", If_Match='"1"')).status_code == 412
    assert (await put(service, "spring", "a", "1", If_None_Match="*")).status_code == 201
    assert (await put(service, "spring", "a", "2", If_None_Match="*")).status_code == 412
    assert (await put(service, "spring", "a", "2", If_Match='"7", "1"')).status_code == 200
    stale = await put(service, "spring", "a", "3", If_Match='"1"')
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await put(service, "spring", "a", "3", If_Match="2")).json()["code"] == "bad_header"
    same = await service.client.get(place("spring", "a"), headers={"If-None-Match": 'W/"2"'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"2"')
    other = await service.client.get(place("spring", "a", "/content"), headers={"If-None-Match": '"1"'})
    assert (other.status_code, other.text) == (200, "2")
    assert (await service.client.delete(place("spring", "a"), headers={"If-Match": '"1"'})).status_code == 412
    assert (await service.client.delete(place("spring", "a"), headers={"If-Match": "*"})).status_code == 204


async def test_of_many_who_write_over_the_same_version_one_wins(service: Service) -> None:
    """R4: the tag is compared where the version is written."""
    await stored(service, "spring", "a", "0")
    answers = await asyncio.gather(*(put(service, "spring", "a", f"n{n}", If_Match='"1"') for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]
    news = await asyncio.gather(*(put(service, "spring", f"b{n}", "x", If_None_Match="*") for n in (1, 1, 1, 2)))
    assert sorted(answer.status_code for answer in news) == [201, 201, 412, 412]


async def test_a_storys_documents_are_listed_by_id(service: Service) -> None:
    """P3: by page; another story's are not among them."""
    for name in ("c", "a", "b", "a"):
        await stored(service, "spring", name, name)
    await stored(service, "autumn", "z")
    first = (await service.client.get(place("spring"), params={"limit": 2})).json()
    assert [each["document_id"] for each in first["items"]] == ["a", "b"]
    rest = (await service.client.get(place("spring"), params={"cursor": first["next_cursor"]})).json()
    assert ([each["document_id"] for each in rest["items"]], rest["next_cursor"]) == (["c"], None)
    assert (await service.client.get(place("nowhere"))).json() == {"items": [], "next_cursor": None}
    assert (await service.client.get(place("spring"), params={"cursor": "%"})).json()["code"] == "bad_query"


@pytest.mark.parametrize("bad", ["a%20b", "..%2f..%2fetc", "%00", "a" * 129, "-a", "%C3%A4"])
async def test_ids_are_validated(service: Service, bad: str) -> None:
    """R6: an id is never a path; one that cannot be is refused by name, and there is nothing under it."""
    answer = await service.client.put(f"/api/v1/stories/spring/documents/{bad}", content=b"x")
    assert answer.status_code in (404, 422), answer.text
    if answer.status_code == 422:
        assert codes(answer) == [("/document_id", "bad_id")]
    assert (await service.client.get(f"/api/v1/stories/{bad}/documents")).status_code == 404
    assert (await service.client.get(place("spring"))).json()["items"] == []


async def test_a_name_that_means_something_else_is_refused(service: Service) -> None:
    answer = await put(service, "spring", "search")
    assert (answer.status_code, codes(answer)) == (422, [("/document_id", "reserved")])


async def test_sizes_are_bounded(sqlite_url: str) -> None:
    """R4: 413 before the rest is read, and nothing is stored."""
    async with serving(sqlite_url, document_bytes=1_024) as service:
        answer = await put(service, "spring", "big", "x" * 1_025)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert (await put(service, "spring", "big", "x" * 1_024)).status_code == 201


async def test_the_status_of_what_is_not_there(service: Service) -> None:
    """R4: `/status` answers for an id that nobody has put."""
    assert (await service.client.get(place("spring", "later", "/status"))).json() == {
        "story_id": "spring", "document_id": "later", "present": False, "version": None, "text_status": None,
        "text_error": None, "waiting_runs": [],
    }  # fmt: skip


async def test_another_tenants_story_is_another_story(service: Service) -> None:
    """P2: the same ids, and neither sees the other's."""
    documents = service.flex.doors.documents
    await stored(service, "spring", "letter", "ours")
    with pytest.raises(DocumentNotFound):
        await documents.get(BEN, "spring", "letter")
    with pytest.raises(DocumentNotFound):
        await documents.remove(BEN, "spring", "letter", Conditions())
    theirs, new = await documents.put(BEN, "spring", "letter", Upload(b"theirs", "text/plain"), Conditions())
    assert (theirs["version"], theirs["created_by"], new) == (1, "user:ben", True)
    assert (await service.client.get(place("spring", "letter", "/content"))).text == "ours"
    assert [each["text"] for each in (await documents.search(BEN, "spring", "ours theirs", 5))["items"]] == ["theirs"]
    found = (await service.client.get(place("spring", "", "/search"), params={"q": "ours theirs"})).json()["items"]
    assert [each["text"] for each in found] == ["ours"]
    assert (await documents.page(BEN, "spring", after="", limit=5))["items"] == [theirs]
