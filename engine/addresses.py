"""Where the outside world calls back, and how it proves that it was given the address (J6).

A token is ``<tenant, base64url>.<signature>`` over tenant, run and node: it says whose run it is, so the door needs no
other credential, and it opens exactly one node of one run.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from contracts.ports import Signer

CALLBACK: Final = "callback"
"""The purpose under which callbacks are signed."""
MAX_TOKEN: Final = 1_000


class Addresses:
    """Makes addresses and reads their tokens. Without a signer no node can be called back from outside."""

    def __init__(self, signer: Signer | None = None, base: str = "") -> None:
        """``base`` is the public URL in front of the paths, without a slash at its end; empty gives paths alone."""
        self._signer, self._base = signer, base

    def callback(self, tenant: str, run_id: str, node_id: str) -> str:
        """Return the address of a node's callback, token and all; raise ``KeyError`` without a signer."""
        if self._signer is None:
            raise KeyError(node_id)
        token = f"{_packed(tenant)}.{self._signer.sign(CALLBACK, _text(tenant, run_id, node_id))}"
        return f"{self._base}/api/stitch/callback/{run_id}/{quote(node_id, safe='')}?token={token}"

    def tenant_of(self, token: str, run_id: str, node_id: str) -> str | None:
        """Return whose run a token opens; None when it is not the one of this run and node."""
        packed, dot, signature = token.partition(".")
        if self._signer is None or not dot or len(token) > MAX_TOKEN:
            return None
        try:
            tenant = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError):
            return None
        return tenant if self._signer.holds(CALLBACK, _text(tenant, run_id, node_id), signature) else None

    def of_run(self, tenant: str, run_id: str) -> Mapping[str, Any]:
        """Return what bindings find below ``/run``: ``id``, and ``callbacks`` by node id (made when they are read)."""
        return {"id": run_id, "callbacks": _Callbacks(self, tenant, run_id)}


class _Callbacks(Mapping[str, str]):
    """Node id → address; any id has one, so it has no end and is never walked."""

    __slots__ = ("_addresses", "_run_id", "_tenant")

    def __init__(self, addresses: Addresses, tenant: str, run_id: str) -> None:
        self._addresses, self._tenant, self._run_id = addresses, tenant, run_id

    def __getitem__(self, node_id: str) -> str:
        return self._addresses.callback(self._tenant, self._run_id, node_id)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _text(tenant: str, run_id: str, node_id: str) -> str:
    return orjson.dumps([tenant, run_id, node_id]).decode()


def _packed(tenant: str) -> str:
    return base64.urlsafe_b64encode(tenant.encode()).decode().rstrip("=")
