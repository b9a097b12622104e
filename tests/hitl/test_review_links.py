"""Review links: GET shows, only POST decides, once, as the person it was sent to (H8)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import urlencode

import httpx2
import orjson
import pytest

from contracts.access import Principal
from hitl.links import Links
from store import prompts
from tests.spine.running import Service, serving

ANA = Principal(subject="user:ana")
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}


def asking(**prompt: Any) -> dict[str, Any]:
    """An envelope whose only node asks."""
    asked: dict[str, Any] = {"question": "Send it?", "assignees": {"users": ["user:ana"]}, "kind": "approval"}
    asked |= {"proposed": {"to": "bakers"}, "answer_schema": {"type": "object"}} | prompt
    node = {"node_id": "q", "kind": "ask", "prompt": asked}
    plan = {"nodes": [node], "edges": [], "output": {"map": {"": {"node_id": "q", "pointer": ""}}}}
    return {"objective": "Write to the <bakers>", "output_contract": {"schema": True}, "workflow": {"plan": plan}}


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process of this test's own."""
    async with serving(database_url) as running:
        yield running


def links_of(service: Service, life_ms: int = 60_000) -> Links:
    shell = service.flex.worker.shell
    return Links(shell.database, shell.clock, service.flex.signer, life_ms)


async def link(service: Service, prompt: dict[str, Any], holder: Principal = ANA, life_ms: int = 60_000) -> str:
    """A link to a prompt, as it would be mailed to its holder."""
    database = service.flex.worker.shell.database
    row = await prompts.get(database, "default", prompt["prompt_id"])
    assert row is not None
    async with database.unit() as unit:
        name = f"lnk_{prompt['prompt_id'][-10:]}_{holder.subject[-3:]}_{abs(life_ms)}"
        return "/review/" + await links_of(service, life_ms).make(unit, name, row, holder)


async def post(service: Service, url: str, **fields: str) -> httpx2.Response:
    """Send the page's form."""
    return await service.client.post(url, content=urlencode(fields), headers=FORM)


async def test_looking_decides_nothing_and_posting_decides_once(service: Service) -> None:
    """H8; n8n#27870, #25311: mail scanners follow the link, also with HEAD and as often as they like."""
    run_id = await service.start(asking())
    (prompt,) = await service.asked(run_id)
    url = await link(service, prompt)
    for _ in range(5):
        assert (await service.client.get(url, headers={"Accept": "*/*"})).status_code == 200
        assert (await service.client.head(url)).status_code == 200
    shown = await service.client.get(url, headers={"Accept": "*/*"})
    assert "Send it?" in shown.text
    assert "Write to the &lt;bakers&gt;" in shown.text
    assert (await service.detail(run_id))["open_prompts"][0]["votes"] == []

    done = await post(service, url, action="approve", comment="Fine.", bound_hash=prompt["bound_hash"])
    assert done.status_code == 200, done.text
    assert "Decided: approve, by user:ana" in done.text
    frames = await service.follow(run_id)
    resolved = next(frame for frame in frames if frame.type == "hitl_resolved")
    assert resolved.payload["decision"]["decided_by"] == "user:ana"
    assert resolved.payload["decision"]["channel"] == "link"
    assert frames[-1].payload["output"] == {"to": "bakers"}

    again = await post(service, url, action="reject")
    assert again.status_code == 409
    assert "<form" not in (await service.client.get(url, headers={"Accept": "text/html"})).text


async def test_a_refused_decision_leaves_the_link_as_it_was(service: Service) -> None:
    """H4: nothing is half-written; the sender's words stay in the form."""
    schema = {"type": "object", "required": ["to"], "properties": {"to": {"type": "string", "minLength": 3}}}
    run_id = await service.start(asking(answer_schema=schema))
    (prompt,) = await service.asked(run_id)
    url = await link(service, prompt)
    page = (await service.client.get(url, headers={"Accept": "text/html"})).text
    assert 'name="field.to"' in page
    refused = await post(service, url, action="edit", **{"field.to": "x"}, comment="Shorter")
    assert refused.status_code == 422
    assert "/answer/to" in unescape(refused.text)
    assert 'value="x"' in refused.text
    assert "Shorter" in refused.text
    taken = await post(service, url, action="edit", **{"field.to": "millers"})
    assert taken.status_code == 200
    assert (await service.follow(run_id))[-1].payload["output"] == {"to": "millers"}


async def test_forged_expired_and_foreign_tokens(service: Service) -> None:
    """H8: signed and expiring; a token of another purpose or prompt is none."""
    run_id = await service.start(asking())
    (prompt,) = await service.asked(run_id)
    good = await link(service, prompt)
    name, _, mark = good.removeprefix("/review/").partition(".")
    other = service.flex.signer.sign("callback", name)
    turned = mark[:-2] + ("AA" if mark[-2:] != "AA" else "BB")
    for token in (f"{name}.{other}", f"{name}.{turned}", f"lnk_other.{mark}", "x", name):
        for answer in (
            await service.client.get(f"/review/{token}", headers={"Accept": "text/html"}),
            await post(service, f"/review/{token}", action="approve"),
        ):
            assert answer.status_code == 404, token
    old = await link(service, prompt, life_ms=-1)
    assert (await service.client.get(old, headers={"Accept": "text/html"})).status_code == 410
    problem = await service.client.post(old, json={"action": "approve"})
    assert (problem.status_code, problem.json()["code"]) == (410, "link_expired")
    assert (await service.detail(run_id))["status"] == "waiting"


async def test_a_link_gives_no_right_its_holder_has_not(service: Service) -> None:
    """Windmill#10317: bound to one prompt and one person; what the prompt refuses, the link refuses."""
    run_id = await service.start(asking())
    (prompt,) = await service.asked(run_id)
    url = await link(service, prompt, Principal(subject="user:ben"))
    assert (await post(service, url, action="approve")).status_code == 403
    own = await link(service, prompt)
    assert (await post(service, own, action="happened")).status_code == 403
    stale = await post(service, own, action="approve", bound_hash="0" * 64)
    assert stale.status_code == 409
    assert (await service.client.post(own, json={"action": "approve"})).status_code == 200
    late = await post(service, url, action="approve")
    assert late.status_code in (403, 409)
    await service.follow(run_id)


async def test_the_page_is_shut_off_from_everything_else(service: Service) -> None:
    """No scripts, no other site, no cache, no referrer; a foreign page cannot post it."""
    run_id = await service.start(asking())
    (prompt,) = await service.asked(run_id)
    url = await link(service, prompt)
    shown = await service.client.get(url, headers={"Accept": "text/html"})
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert shown.headers["cache-control"] == "no-store"
    assert "<script" not in shown.text
    foreign = await service.client.post(
        url, content="action=approve", headers={**FORM, "Origin": "https://elsewhere.example"}
    )
    assert foreign.status_code == 403
    assert (await service.detail(run_id))["status"] == "waiting"
    assert (await service.client.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("schema", "sent", "answer"),
    [
        ({"enum": ["red", "blue"]}, {"answer": '"blue"'}, "blue"),
        ({"type": "boolean"}, {"answer": "true"}, True),
        ({"type": "array", "items": {"type": "integer"}}, {"answer": "[1, 2]"}, [1, 2]),
        (
            {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}, "required": ["n"]},
            {"field.n": "3", "field.ok": "false"},
            {"n": 3, "ok": False},
        ),
    ],
)
async def test_forms_for_every_sort_of_answer(service: Service, schema: Any, sent: dict[str, str], answer: Any) -> None:
    """H2: question and choice by a form made from the same schema that checks the answer."""
    run_id = await service.start(asking(kind="question", answer_schema=schema, proposed=None))
    (prompt,) = await service.asked(run_id)
    url = await link(service, prompt)
    page = (await service.client.get(url, headers={"Accept": "text/html"})).text
    for name in sent:
        assert re.search(rf'name="{re.escape(name)}"', page), page
    broken = await post(service, url, action="answer", **dict.fromkeys(sent, "{"))
    assert broken.status_code == 422
    assert (await post(service, url, action="answer", **sent)).status_code == 200
    assert orjson.dumps((await service.follow(run_id))[-1].payload["output"]) == orjson.dumps(answer)
