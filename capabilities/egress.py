"""Where requests to addresses from a plan may go: to the public internet only (server-side request forgery, CWE-918).

A host is resolved once, *every* address it has must be public, and the connection is made to the address that was
checked, so a name that resolves to something else a moment later changes nothing. Every redirect is checked anew.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from contracts.capability import CapabilityError

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as text; raises ``OSError`` when there are none."""

_INSIDE: Final = (".localhost", ".local", ".internal", ".home.arpa")
"""Names that never lead to the public internet (RFC 6761, 6762, 8375; ICANN's .internal)."""
PORTS: Final = {"http": 80, "https": 443}

_V4_CLOSED: Final = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
"""IANA's special-purpose blocks, multicast, and one cloud's host agent that lives at a public address."""
_V6_OPEN: Final = ipaddress.IPv6Network("2000::/3")
_V6_CLOSED: Final = tuple(
    ipaddress.IPv6Network(block)
    for block in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)  # fmt: skip
"""Teredo and 6to4 carry IPv4 addresses inside; the others are documentation and special purpose."""
_V6_TRANSLATED: Final = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What may be reached. ``allow`` lists hosts (``host`` or ``host:port``) that are exempt (FLEX_EGRESS_ALLOW)."""

    allow: frozenset[str] = frozenset()
    resolve: Resolver = field(default_factory=lambda: system_resolver)

    async def admit(self, scheme: str, host: str, port: int | None) -> str:
        """Return the address to connect to.

        Raises :class:`CapabilityError`: ``egress_refused`` (not retryable) when the place is not allowed,
        ``host_unknown`` (retryable) when the name does not resolve.
        """
        name = host.rstrip(".").lower().strip("[]")
        if scheme not in PORTS:
            raise _refused(f"{scheme or 'An address without a scheme'} is not http or https")
        number = PORTS[scheme] if port is None else port
        exempt = name in self.allow or f"{name}:{number}" in self.allow
        if not exempt and number not in PORTS.values():
            raise _refused(f"port {number} is not one of 80 and 443")
        addresses = await self._addresses(name, number)
        closed = [] if exempt else [address for address in addresses if not is_public(address)]
        if closed:
            raise _refused(f"{name} is not on the public internet")
        return addresses[0]

    def plainly_refused(self, url: str) -> str | None:
        """Return why an address would be refused that says so itself; None: only resolving its host can tell."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip(".").lower(), parts.port
        except ValueError:
            return "it is no address"
        if parts.scheme not in PORTS:
            return f"{parts.scheme or 'an address without a scheme'} is not http or https"
        number = PORTS[parts.scheme] if port is None else port
        if host in self.allow or f"{host}:{number}" in self.allow:
            return None
        if number not in PORTS.values():
            return f"port {number} is not one of 80 and 443"
        numeric = host.replace(".", "").isdigit() or ":" in host
        inside = host in ("", "localhost") or host.endswith(_INSIDE) or (numeric and not is_public(host))
        return f"{host or 'nowhere'} is not on the public internet" if inside else None

    async def _addresses(self, name: str, port: int) -> Sequence[str]:
        if not name:
            raise _refused("the address names no host")
        try:
            addresses = await self.resolve(name, port)
        except (OSError, UnicodeError) as error:
            raise CapabilityError("host_unknown", f"{name} does not resolve.") from error
        if not addresses:
            raise CapabilityError("host_unknown", f"{name} has no address.")
        return addresses


def egress_policy(setting: str) -> EgressPolicy:
    """Read FLEX_EGRESS_ALLOW: hosts, or ``host:port``, separated by commas or spaces."""
    return EgressPolicy(frozenset(setting.lower().replace(",", " ").split()))


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system; numeric forms of every kind (``2130706433``, ``0x7f.1``) become addresses here."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Say whether an IP address is on the public internet; what cannot be read is not."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if "%" in address:
        return False
    if isinstance(read, ipaddress.IPv6Address):
        if any(read in block for block in _V6_TRANSLATED):
            return is_public(str(ipaddress.IPv4Address(int(read) & 0xFFFFFFFF)))
        return read in _V6_OPEN and not any(read in block for block in _V6_CLOSED)
    return not any(read in block for block in _V4_CLOSED)


def _refused(why: str) -> CapabilityError:
    message = f"The request was not sent: {why}. FLEX_EGRESS_ALLOW can exempt a host."
    return CapabilityError("egress_refused", message, retryable=False)
