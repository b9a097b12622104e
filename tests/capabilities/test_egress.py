"""Requests from plans reach the public internet only (W4 egress; SSRF), whatever names resolve to."""

import ipaddress
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import CapabilityError
from capabilities.egress import EgressPolicy, egress_policy, is_public, system_resolver
from capabilities.http_request import MAX_BYTES, MAX_REDIRECTS
from capabilities.registry import Registry
from capabilities.world import World
from contracts.outcome import Fail
from contracts.schema import compile_schema
from tests.capabilities.calls import Call, bundle, run
from tests.capabilities.web import Answer, Asked, serving

CLOSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16
169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:0
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:5ef5:79fd::1 2001:db8::1 2002:7f00:1::
2002:808:808::1 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1
ff02::1 ff0e::1 4000::1 2606:4700::1111%eth0 not-an-address 1.2.3 1.2.3.4.5 0177.0.0.1
"""
OPEN = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255
172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 93.184.215.14
2606:4700:4700::1111 2a00:1450:4001:80b::200e ::ffff:8.8.8.8 64:ff9b::808:808
"""


def _say(answer: Answer, _asked: object) -> Answer:
    return answer


@pytest.mark.parametrize("address", CLOSED.split())
def test_addresses_that_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OPEN.split())
def test_addresses_that_are_allowed(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_whatever_python_calls_private_is_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if any(address in ipaddress.ip_network(block) for block in ("::ffff:0:0/96", "64:ff9b::/96")):
        assert is_public(str(address)) == is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
    elif address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not is_public(str(address))


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://example.com/x", False), ("http://1.1.1.1/", False), ("https://[2606:4700:4700::1111]/", False),
        ("http://10.0.0.1/", True), ("http://[::1]/", True), ("http://localhost/", True), ("http://db.internal/", True),
        ("http://printer.local./", True), ("ftp://example.com/", True), ("example.com", True), ("http:///x", True),
        ("http://example.com:8080/", True), ("http://intranet:8080/", False), ("http://[/", True),
    ],
)  # fmt: skip
def test_an_address_that_says_so_itself_is_refused_before_anything_runs(url: str, refused: bool) -> None:
    """W4: egress to a forbidden host is a finding of the plan that writes it down."""
    policy = EgressPolicy(frozenset({"intranet:8080"}))
    assert (policy.plainly_refused(url) is not None) is refused
    found = Registry(World(egress=policy)).find("http.get")
    assert found is not None
    assert (found.spec.literals["url"](url) or ("",))[0] == ("egress_forbidden" if refused else "")


def _resolving(*addresses: str) -> EgressPolicy:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return EgressPolicy(resolve=resolve)


async def _refusal(policy: EgressPolicy, *where: Any) -> CapabilityError:
    with pytest.raises(CapabilityError) as refused:
        await policy.admit(*where)
    return refused.value


async def test_every_address_of_a_name_must_be_public() -> None:
    assert await _resolving("8.8.8.8", "1.1.1.1").admit("https", "example.com", None) == "8.8.8.8"
    for addresses in (["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["2606:4700::1", "::1"]):
        error = await _refusal(_resolving(*addresses), "https", "example.com", None)
        assert (error.code, error.retryable) == ("egress_refused", False)
        assert addresses[-1] not in error.message, "the refusal does not map the inside for whoever asks"


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [("ftp", "example.com", None), ("file", "", None), ("", "example.com", None), ("http", "example.com", 22),
     ("https", "example.com", 8443), ("http", "example.com", 0), ("http", "", None)],
)  # fmt: skip
async def test_schemes_ports_and_hosts_that_are_refused(scheme: str, host: str, port: int | None) -> None:
    assert (await _refusal(_resolving("8.8.8.8"), scheme, host, port)).code == "egress_refused"


async def test_numeric_spellings_of_the_loopback_are_seen_through() -> None:
    policy = EgressPolicy(resolve=system_resolver)
    for host in ("localhost", "127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "[::1]", "LOCALHOST."):
        assert (await _refusal(policy, "http", host, None)).code in ("egress_refused", "host_unknown"), host


async def test_a_name_that_does_not_resolve_may_do_so_later() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    for policy in (EgressPolicy(resolve=nowhere), _resolving()):
        error = await _refusal(policy, "http", "example.com", None)
        assert (error.code, error.retryable) == ("host_unknown", True)


async def test_the_operator_may_exempt_hosts_and_ports() -> None:
    policy = egress_policy("intranet.example, 127.0.0.1:8080")
    assert policy.allow == {"intranet.example", "127.0.0.1:8080"}
    assert await policy.admit("http", "127.0.0.1", 8080) == "127.0.0.1"
    assert (await _refusal(policy, "http", "127.0.0.1", 8081)).code == "egress_refused"
    assert egress_policy("").allow == frozenset()


# --- over a real connection ---


class _Names:
    """A resolver with a table; it remembers how often each name was asked for."""

    def __init__(self, **table: str) -> None:
        self.table = {name.replace("_", "."): address for name, address in table.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return [self.table.get(host, host)]


def _registry(*allow: str, names: _Names | None = None) -> Registry:
    return Registry(World(egress=EgressPolicy(frozenset(allow), names or _Names())))


def _json(_: Asked) -> Answer:
    return Answer(headers={"content-type": "application/json; charset=utf-8"}, pieces=(b'{"a": ', b"[1, 2]}"))


async def test_a_page_is_fetched_and_nothing_of_ours_is_sent_along() -> None:
    async with serving(_json) as server:
        said = await run(_registry("127.0.0.1"), "http.get", {"url": f"{server.url}/x?y=1#z"})
    assert said == {"status": 200, "content_type": "application/json", "text": '{"a": [1, 2]}', "json": {"a": [1, 2]}}
    facets = {facet.name: facet for facet in Registry().catalogue().facets}
    assert compile_schema(facets["http_response"].schema).is_valid(said)
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("GET", "/x?y=1")
    assert set(asked.headers) <= {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """DNS rebinding: the name is resolved once, and the host header still names it."""
    names = _Names(shop_example="127.0.0.1")
    async with serving(_json) as server:
        registry = _registry(f"shop.example:{server.port}", names=names)
        said = await run(registry, "http.get", {"url": f"http://shop.example:{server.port}/"})
        assert said["status"] == 200
        assert names.asked == ["shop.example"]
        assert server.asked[0].headers["host"] == f"shop.example:{server.port}"


async def _fails(registry: Registry, url: str) -> CapabilityError:
    with pytest.raises(CapabilityError) as failed:
        await run(registry, "http.get", {"url": url})
    return failed.value


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/", "http://inside.example/", "//127.0.0.2:80/", "ftp://example.com/",
     "http://[::1]/", "http://user:pw@example.com/", "http://a:b:c/"],
)  # fmt: skip
async def test_a_redirect_is_checked_like_any_other_address(location: str) -> None:
    async with serving(lambda _: Answer(302, {"location": location})) as server:
        registry = _registry(f"127.0.0.1:{server.port}", names=_Names(inside_example="10.0.0.7"))
        error = await _fails(registry, server.url)
        assert (error.code, error.retryable) == ("egress_refused", False)
        assert len(server.asked) == 1


async def test_redirects_are_followed_and_counted() -> None:
    def answer(asked: Asked) -> Answer:
        left = int(asked.target.rpartition("/")[2])
        return Answer(307, {"location": f"/hop/{left - 1}"}) if left else Answer(pieces=(b"there",))

    async with serving(answer) as server:
        registry = _registry("127.0.0.1")
        assert (await run(registry, "http.get", {"url": f"{server.url}/hop/{MAX_REDIRECTS}"}))["text"] == "there"
        error = await _fails(registry, f"{server.url}/hop/{MAX_REDIRECTS + 1}")
        assert error.code == "too_many_redirects"


@pytest.mark.parametrize(
    "url", ["not a url", "http://", "http://user:pw@example.com/", "http://exa mple.com", "mailto:a@b"]
)
async def test_what_is_no_address(url: str) -> None:
    assert (await _fails(_registry(), url)).code == "egress_refused"


async def test_answers_that_are_too_large_or_encoded_are_refused() -> None:
    big = Answer(pieces=(b"x" * (MAX_BYTES // 2),) * 3)
    packed = Answer(headers={"content-encoding": "gzip"}, pieces=(b"\x1f\x8b",))
    for answer in (big, packed):
        async with serving(partial(_say, answer)) as server:
            assert (await _fails(_registry("127.0.0.1"), server.url)).code == "response_refused"


@pytest.mark.parametrize(("status", "after", "ms"), [(503, "7", 7_000), (429, "soon", None), (500, "", None)])
async def test_a_busy_server_is_tried_again(status: int, after: str, ms: int | None) -> None:
    async with serving(lambda _: Answer(status, {"retry-after": after})) as server:
        error = await _fails(_registry("127.0.0.1"), server.url)
    assert (error.code, error.retryable, error.after_ms) == ("http_busy", True, ms)


async def test_a_missing_page_is_a_result_and_odd_text_is_readable() -> None:
    strange = Answer(404, {"content-type": "text/plain; charset=klingon"}, (b"no\x00t \xff here",))
    async with serving(lambda _: strange) as server:
        said = await run(_registry("127.0.0.1"), "http.get", {"url": server.url})
    assert said == {"status": 404, "content_type": "text/plain", "text": "no\ufffdt \ufffd here"}


async def test_json_that_is_none_stays_text() -> None:
    for body in (b"{", b'{"a": "\\u0000"}'):
        answer = Answer(headers={"content-type": "application/json"}, pieces=(body,))
        async with serving(partial(_say, answer)) as server:
            assert "json" not in await run(_registry("127.0.0.1"), "http.get", {"url": server.url})


async def test_nobody_there() -> None:
    async with serving(_json) as server:
        url = server.url
    error = await _fails(_registry("127.0.0.1"), url)
    assert (error.code, error.retryable) == ("http_unreachable", True)


async def test_a_broken_answer_is_retried_for_get_and_ambiguous_for_post() -> None:
    """F6, H2: a once effect that may have happened is never repeated by itself."""
    inputs = {"body": {"n": 1}}
    async with serving(lambda _: Answer(pieces=(b"half",), cut=True)) as server:
        registry = _registry("127.0.0.1")
        assert (await _fails(registry, server.url)).code == "http_no_answer"
        said = await run(registry, "http.post", {**inputs, "url": server.url})
    assert isinstance(said, Fail)
    assert said.ambiguous
    with pytest.raises(CapabilityError, match="http_unreachable"):
        await run(registry, "http.post", {**inputs, "url": server.url})


async def test_a_post_is_sent_once_with_its_key_and_not_redirected() -> None:
    async with serving(lambda _: Answer(303, {"location": "/other"}, (b"see other",))) as server:
        registry = _registry("127.0.0.1")
        post = registry.find("http.post")
        assert post is not None
        inputs = {"url": server.url, "body": [{"n": 1}]}
        first = await post.run(bundle(inputs), Call(idempotency_key="k1"))
        await post.run(bundle(inputs), Call(idempotency_key="k1"))
        await post.run(bundle(inputs), Call(idempotency_key="k2"))
    assert isinstance(first, dict)
    assert (first["status"], first["text"]) == (303, "see other")
    keys = [asked.headers["idempotency-key"] for asked in server.asked]
    assert len(keys) == 3
    assert keys[0] == keys[1] != keys[2]
    assert "k1" not in keys[0]
    assert server.asked[0].body == b'[{"n":1}]'
    assert server.asked[0].headers["content-type"] == "application/json"
