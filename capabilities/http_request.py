"""``http.get`` and ``http.post``: requests to addresses from a plan, guarded by :mod:`capabilities.egress`.

Nothing of ours is sent along: no header of the caller's, no cookie, no proxy or password from the environment.
httpx2 is imported with the first request, because most services never make one.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

import orjson

from capabilities.authoring import CapabilityBase, take
from capabilities.egress import PORTS, EgressPolicy
from capabilities.web_facets import HTTP_RESPONSE, REQUEST_BODY, REQUEST_URL
from capabilities.world import World
from contracts.capability import Bundle, CallContext, CapabilityError, CapabilitySpec, LiteralCheck, Param
from contracts.outcome import Fail
from contracts.wire import has_nul

MAX_BYTES: Final = 2_000_000
MAX_REDIRECTS: Final = 5
SECONDS: Final = 30.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BUSY: Final = frozenset({408, 425, 429})


def _at_url(egress: EgressPolicy) -> Mapping[str, LiteralCheck]:
    def check(value: Any) -> tuple[str, str] | None:
        why = egress.plainly_refused(value) if isinstance(value, str) else None
        return None if why is None else ("egress_forbidden", f"No request is sent there: {why}.")

    return {"url": check}


class HttpGet(CapabilityBase):
    """``http.get``: fetches an address; answers up to 499 are results, a busy server is tried again."""

    spec = CapabilitySpec(
        "http.get",
        description="Fetches a public http or https address.",
        consumes={"url": Param(REQUEST_URL.name)},
        produces=(HTTP_RESPONSE.name,),
        effects="idempotent",
        latency_ms=500,
        quality=0.6,
        in_process=False,
    )

    def __init__(self, world: World) -> None:
        """Take the egress policy."""
        self._egress = world.egress
        self.spec = replace(self.spec, literals=_at_url(world.egress))

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        """Return status, content type and text; follows up to five redirects, each of them checked."""
        url = str(take(bundle, "url"))
        for _ in range(MAX_REDIRECTS + 1):
            reply = await send(self._egress, "GET", url, {}, None)
            if reply.status not in _REDIRECTS or "location" not in reply.headers:
                return _result(reply)
            url = _onward(url, reply.headers["location"])
        raise CapabilityError("too_many_redirects", f"More than {MAX_REDIRECTS} redirects.", retryable=False)


class HttpPost(CapabilityBase):
    """``http.post``: sends JSON once. It produces no facet, so only plans that people write use it.

    The idempotency key travels as a hash in the ``Idempotency-Key`` header. Whatever the server answered is the result;
    no answer after the request was sent is ambiguous, and then people are asked.
    """

    spec = CapabilitySpec(
        "http.post",
        description="Sends JSON to a public http or https address, once.",
        consumes={"url": Param(REQUEST_URL.name), "body": Param(REQUEST_BODY.name)},
        effects="once",
        latency_ms=500,
        quality=0.6,
        in_process=False,
    )

    def __init__(self, world: World) -> None:
        """Take the egress policy."""
        self._egress = world.egress
        self.spec = replace(self.spec, literals=_at_url(world.egress))

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        """Return status, content type and text, redirects included: they are not followed."""
        key = hashlib.sha256(context.idempotency_key.encode()).hexdigest()
        headers = {"content-type": "application/json", "idempotency-key": key}
        body = orjson.dumps(take(bundle, "body"))
        try:
            reply = await send(self._egress, "POST", str(take(bundle, "url")), headers, body)
        except CapabilityError as error:
            if error.code in ("http_no_answer", "http_timeout", "response_refused"):
                return Fail(error.code, f"{error.message} Whether it was done is not known.", ambiguous=True)
            raise
        return reply.shown()


class Reply:
    """What a server answered, read within bounds. Header names are lower case."""

    def __init__(self, status: int, headers: Mapping[str, str], charset: str, body: bytes) -> None:
        """Keep the parts."""
        self.status, self.headers, self.body = status, headers, body
        self._charset = charset

    @property
    def busy(self) -> bool:
        """Say whether the server may answer better later: 5xx, 408, 425, 429."""
        return self.status >= 500 or self.status in _BUSY

    @property
    def after_ms(self) -> int | None:
        """Return ``Retry-After`` in ms, an hour at most; None when it is not there or not in seconds."""
        after = self.headers.get("retry-after", "")
        return min(int(after), 3_600) * 1_000 if after.isascii() and after.isdigit() and len(after) < 6 else None

    def shown(self) -> dict[str, Any]:
        """Return the reply as the facet ``http_response``."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            text = self.body.decode(self._charset, "replace")
        except LookupError:
            text = self.body.decode("utf-8", "replace")
        shown: dict[str, Any] = {"status": self.status, "content_type": kind, "text": text.replace("\x00", "\ufffd")}
        if kind.endswith("json"):
            try:
                value = orjson.loads(self.body)
            except orjson.JSONDecodeError:
                return shown
            if not has_nul(value):
                shown["json"] = value
        return shown


def _onward(url: str, location: str) -> str:
    """Return where a redirect leads; whether that is allowed is checked like any other address."""
    import httpx2

    try:
        return str(httpx2.URL(url).join(location))
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise CapabilityError("egress_refused", "A redirect leads to no address.", retryable=False) from error


def _result(reply: Reply) -> dict[str, Any]:
    if reply.busy:
        raise CapabilityError("http_busy", f"The server answered {reply.status}.", after_ms=reply.after_ms)
    return reply.shown()


async def send(
    egress: EgressPolicy,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    seconds: float = SECONDS,
) -> Reply:
    """Send one request to an address that ``egress`` admits and return the answer, whatever its status.

    Raises :class:`CapabilityError`. Nothing was sent: ``egress_refused``, ``host_unknown``, ``http_unreachable``.
    It may have been done: ``http_timeout``, ``http_no_answer``, ``response_refused`` (encoded, or over ``MAX_BYTES``).
    """
    import httpx2

    try:
        async with asyncio.timeout(seconds):
            request, sni = await _request(egress, method, url, headers, body, seconds)
            async with httpx2.AsyncClient(verify=_tls(), trust_env=False, timeout=seconds) as client:
                return await _exchange(client, request, sni)
    except (TimeoutError, httpx2.TimeoutException) as error:
        code = "http_unreachable" if isinstance(error, httpx2.ConnectTimeout) else "http_timeout"
        raise CapabilityError(code, f"No answer within {seconds:g} seconds.") from error
    except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as error:
        raise CapabilityError("http_unreachable", f"The server could not be reached: {error}.") from error
    except httpx2.HTTPError as error:
        raise CapabilityError("http_no_answer", f"The server gave no usable answer: {error}.") from error


async def _request(
    egress: EgressPolicy, method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
) -> tuple[Any, str]:
    """Return a request to the address that was checked, and the name the certificate must bear."""
    import httpx2

    asked, host = _read(url)
    address = await egress.admit(asked.scheme, host, asked.port)
    named = f"[{host}]" if ":" in host else host
    shown = named if asked.port in (None, PORTS[asked.scheme]) else f"{named}:{asked.port}"
    sent = {"host": shown, "user-agent": "flex", "accept": "*/*", "accept-encoding": "identity", **headers}
    pinned = asked.copy_with(host=address, fragment=None)
    extensions = {"sni_hostname": host, "timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)}
    return httpx2.Request(method, pinned, headers=sent, content=body, extensions=extensions), host


def _read(url: str) -> tuple[Any, str]:
    """Return an address and its host in ASCII."""
    import httpx2

    try:
        asked = httpx2.URL(url)
        host = asked.raw_host.decode("ascii")
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise CapabilityError("egress_refused", f"{url[:200]!r} is no address.", retryable=False) from error
    if asked.userinfo:
        raise CapabilityError("egress_refused", "An address with a password in it is not used.", retryable=False)
    return asked, host


async def check_address(egress: EgressPolicy, url: str) -> None:
    """Raise :class:`CapabilityError` (``egress_refused``, ``host_unknown``) for an address that would not be called."""
    asked, host = _read(url)
    await egress.admit(asked.scheme, host, asked.port)


async def _exchange(client: Any, request: Any, host: str) -> Reply:
    response = await client.send(request, stream=True)
    try:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise CapabilityError("response_refused", f"{host} answered in an encoding that was not asked for.")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise CapabilityError("response_refused", f"The answer is over {MAX_BYTES} bytes.", retryable=False)
    finally:
        await response.aclose()
    charset = response.charset_encoding or "utf-8"
    return Reply(response.status_code, dict(response.headers), charset, bytes(body))


@cache
def _tls() -> ssl.SSLContext:
    """Return the one TLS context: reading the certificate store takes tens of milliseconds."""
    return ssl.create_default_context()
