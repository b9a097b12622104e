"""Telling people (H8): by mail and web hook through a real mail server and a real HTTP server, on both databases."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from hitl.messenger import AppriseMessenger, check_address
from hitl.notify import BACKOFF_MS, Sender
from store import notifications, prompts
from tests.durability.waiting import until
from tests.hitl.test_review_links import FORM, asking, links_of
from tests.spine.running import Service, serving


@dataclass
class Mailbox:
    """Everything that a mail server took."""

    port: int = 0
    mails: list[Any] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A real mail server on a free port."""
    box = Mailbox()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        box.port = found.getsockname()[1]
    server = Controller(box, hostname="127.0.0.1", port=box.port)
    server.start()
    try:
        yield box
    finally:
        server.stop()


@dataclass
class Hook:
    """A web hook's receiver; ``broken`` makes it answer 500 that many times."""

    url: str = ""
    broken: int = 0
    bodies: list[Any] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A real HTTP server on a free port."""
    kept = Hook()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if kept.broken > 0:
                kept.broken -= 1
                self.send_response(500)
            else:
                kept.bodies.append(body)
                self.send_response(200)
            self.end_headers()

        def log_message(self, *_given: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    kept.url = f"json://127.0.0.1:{server.server_port}/asked"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
async def service(database_url: str, mailbox: Mailbox, hook: Hook) -> AsyncIterator[Service]:
    """A service that tells user:ana by mail and operators by web hook."""
    ana = f"mailto://127.0.0.1:{mailbox.port}?from=flex@flex.example&to=ana@flex.example&mode=insecure"
    book = {"user:ana": [ana], "role:operator": [hook.url]}
    async with serving(database_url, notify=book, public_url="https://flex.example") as running:
        yield running


def link_in(text: str) -> str:
    """The path of the review link in a message."""
    found = re.search(r"https://flex\.example(/review/\S+)", text)
    assert found, text
    return found[1]


async def test_a_mail_brings_a_link_that_decides(service: Service, mailbox: Mailbox) -> None:
    """H8: raised → mail → page → decision; the mail shows the question and nothing of what is proposed."""
    run_id = await service.start(asking(question="Send the letter to all bakers?", due_seconds=3_600))
    await until(lambda: mailbox.mails, 10, "a mail")
    (mail,) = mailbox.mails
    text = mail.get_body(("plain", "html")).get_content()
    assert "Send the letter to all bakers?" in mail["subject"]
    assert "bakers" in text
    assert '"to"' not in text
    done = await service.client.post(link_in(text), content=urlencode({"action": "approve"}), headers=FORM)
    assert done.status_code == 200, done.text
    resolved = next(frame for frame in await service.follow(run_id) if frame.type == "hitl_resolved")
    assert resolved.payload["decision"]["decided_by"] == "user:ana"


async def test_whoever_a_prompt_is_passed_on_to_is_told(service: Service, mailbox: Mailbox, hook: Hook) -> None:
    """H3, H8: the delegate gets a link that decides; from then on the reminders are the delegate's too."""
    asked = {"users": ["user:local"], "roles": ["operator"]}
    run_id = await service.start(asking(assignees=asked, remind_seconds=[2]))
    prompt_id = (await until(lambda: _prompt(service), 10, "a prompt"))["prompt_id"]
    await until(lambda: hook.bodies, 10, "a web hook")
    done = await service.client.post(f"/api/v1/prompts/{prompt_id}/delegate", json={"to": "user:ana"})
    assert done.status_code == 200, done.text
    await until(lambda: len(mailbox.mails) > 1, 10, "two mails")
    passed, reminder = mailbox.mails
    assert passed["subject"].startswith("Passed on to you")
    assert reminder["subject"].startswith("Still waiting for you")
    text = passed.get_body(("plain", "html")).get_content()
    done = await service.client.post(link_in(text), content=urlencode({"action": "approve"}), headers=FORM)
    assert done.status_code == 200, done.text
    resolved = next(frame for frame in await service.follow(run_id) if frame.type == "hitl_resolved")
    assert resolved.payload["decision"]["decided_by"] == "user:ana"


async def test_a_say_that_is_passed_on_at_once_is_told_once(service: Service, mailbox: Mailbox, hook: Hook) -> None:
    """H8: whoever gets a say before anybody was told of the prompt is told with the others."""
    await service.start(asking(assignees={"users": ["user:local"], "roles": ["operator"]}))
    prompt = await until(lambda: _prompt(service), 10, "a prompt")
    row = await prompts.get(service.flex.worker.shell.database, "default", prompt["prompt_id"])
    assert row is not None
    told = row.notify_at is None
    await service.client.post(f"/api/v1/prompts/{prompt['prompt_id']}/delegate", json={"to": "user:ana"})
    await until(lambda: hook.bodies and mailbox.mails, 10, "both messages")
    (mail,) = mailbox.mails
    assert mail["subject"].startswith("You are asked") or told


async def test_a_role_s_address_is_one_voice(service: Service, hook: Hook) -> None:
    """H3: a quorum of two distinct people is not reached by one mailbox, however many links it gets."""
    run_id = await service.start(asking(assignees={"roles": ["operator"]}, quorum=2))
    await until(lambda: hook.bodies, 10, "a web hook")
    url = link_in(hook.bodies[0]["message"])
    first = await service.client.post(url, json={"action": "approve"})
    assert first.status_code == 200
    assert first.json()["prompt"]["status"] == "open"
    assert (await service.client.post(url, json={"action": "approve"})).status_code in (200, 409)
    detail = await service.detail(run_id)
    assert detail["status"] == "waiting"
    assert [vote["decided_by"] for vote in detail["open_prompts"][0]["votes"]] == ["link:role:operator"]


async def test_where_the_requester_may_not_decide_a_role_s_address_gets_no_link(service: Service, hook: Hook) -> None:
    """H3: the requester could read that mailbox; a link cannot tell."""
    await service.start(asking(assignees={"roles": ["operator"]}, exclude_requester=True))
    await until(lambda: hook.bodies, 10, "a web hook")
    assert "/review/" not in hook.bodies[0]["message"]


async def test_a_message_that_is_not_taken_is_tried_again_and_then_given_up(service: Service, hook: Hook) -> None:
    """H8: nothing is lost because a receiver is down; nothing is tried for ever."""
    hook.broken = 1
    await service.start(asking(assignees={"roles": ["operator"]}))
    database = service.flex.worker.shell.database
    run = (await service.client.get("/api/v1/prompts")).json()["items"]
    prompt_id = (await until(lambda: _prompt(service), 10, "a prompt"))["prompt_id"]

    async def tried() -> list[Any]:
        rows = await notifications.of_prompt(database, "default", prompt_id)
        return [row for row in rows if row.error is not None]

    (row,) = await until(tried, 10, "a failed try")
    assert run is not None
    assert row.wake_at is not None
    assert "json://" in row.error
    assert "127.0.0.1" not in row.error
    clock = _Later(service.flex.worker.shell.clock, BACKOFF_MS[0])
    sender = Sender(
        database, clock, AppriseMessenger(), links_of(service), {"role:operator": [hook.url]}, "https://flex.example"
    )
    assert await sender.tick() == 1
    assert len(hook.bodies) == 1
    (row,) = await notifications.of_prompt(database, "default", prompt_id)
    assert (row.wake_at, row.error) == (None, None)
    assert row.sent_at is not None


async def test_several_senders_send_once(service: Service, hook: Hook) -> None:
    """Any number of processes send; a message is taken by one."""
    database = service.flex.worker.shell.database
    for _ in range(6):
        await service.start(asking(assignees={"roles": ["operator"]}))
    book = {"role:operator": [hook.url]}
    senders = [
        Sender(database, service.flex.worker.shell.clock, AppriseMessenger(), links_of(service), book, "https://x")
        for _ in range(3)
    ]

    async def all_told() -> bool:
        await asyncio.gather(*(sender.tick() for sender in senders))
        return len(hook.bodies) >= 6

    await until(all_told, 15, "six messages")
    assert len({link_in(body["message"].replace("https://x", "https://flex.example")) for body in hook.bodies}) == 6
    assert len(hook.bodies) == 6


def test_an_address_that_nobody_can_be_reached_at_is_refused_without_its_secret() -> None:
    """A typing error in the settings stops the start, and says nothing secret."""
    with pytest.raises(ValueError, match="nowhere://… is no address") as refused:
        check_address("nowhere://user:secret@host")
    assert "secret" not in str(refused.value)


async def _prompt(service: Service) -> Any:
    items = (await service.client.get("/api/v1/prompts")).json()["items"]
    return items[0] if items else None


@dataclass
class _Later:
    """A clock that is ahead."""

    clock: Any
    ahead_ms: int

    def now_ms(self) -> int:
        return int(self.clock.now_ms()) + self.ahead_ms + 1_000

    def monotonic(self) -> float:
        return float(self.clock.monotonic())
