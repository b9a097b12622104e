"""Capabilities whose every call leaves a line in a file: what really happened, whatever the service says.

A file that the service loads at start (``--capabilities``). ``STEPS_LOG`` names the file of lines; a step with a gate
does not end before a file of the gate's name stands in ``STEPS_GATES``. ``ms`` is how long a step takes, ``fails`` how
many of its first attempts end with an error.
"""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from capabilities.authoring import capability
from capabilities.declarations import facet
from contracts.capability import Bundle, CallContext, CapabilityError

STEP = facet("durable_step", {"type": ["object", "null"]}, description="What a step says of itself.")
GATE = facet("durable_gate", {"type": "string"}, description="The name of a file that a step waits for.")
MS = facet("durable_ms", {"type": "integer", "minimum": 0}, description="How long a step takes.")
FAILS = facet("durable_fails", {"type": "integer", "minimum": 0}, description="How many attempts fail.")
ITEM = facet("durable_item", True, description="What a map hands to one of its steps.")
SCOPE = facet("durable_scope", {"type": "string"}, description="The scope of memory that a step writes.")
KEY = facet("durable_key", {"type": "string"}, description="The key that a step writes.")

_TAKES = {"after?": STEP, "also?": STEP, "gate?": GATE, "ms?": MS, "fails?": FAILS, "item?": ITEM}


def _note(what: str, context: CallContext) -> None:
    """Append one line; O_APPEND keeps the lines of several processes apart."""
    line = {
        "what": what,
        "run_id": context.run_id,
        "node_id": context.node_id,
        "attempt": context.attempt,
        "key": context.idempotency_key,
        "pid": os.getpid(),
        "at": time.time() * 1_000,
    }
    handle = os.open(os.environ["STEPS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


async def _step(context: CallContext, bundle: Bundle) -> dict[str, Any]:
    _note("begin", context)
    gate = bundle.inputs.get("gate")
    if gate is not None:
        opened = Path(os.environ["STEPS_GATES"]) / gate
        # Another process opens it, so no event can tell; the node's own timeout bounds the wait.
        while not opened.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    if "ms" in bundle.inputs:
        await asyncio.sleep(bundle.inputs["ms"] / 1_000)
    if context.attempt <= bundle.inputs.get("fails", 0):
        _note("failed", context)
        raise CapabilityError("not_yet", "This attempt was to fail.")
    _note("end", context)
    return {"by": context.node_id}


@capability("step.none", consumes=_TAKES, produces=STEP)
async def none(bundle: Bundle, context: CallContext, **_inputs: Any) -> dict[str, Any]:
    """Does nothing to the world; may run ahead of the commit."""
    return await _step(context, bundle)


@capability("step.idempotent", consumes=_TAKES, produces=STEP, effects="idempotent", in_process=False)
async def idempotent(bundle: Bundle, context: CallContext, **_inputs: Any) -> dict[str, Any]:
    """May be called twice with the same key."""
    return await _step(context, bundle)


@capability("step.once", consumes=_TAKES, produces=STEP, effects="once", in_process=False)
async def once(bundle: Bundle, context: CallContext, **_inputs: Any) -> dict[str, Any]:
    """Must never be called twice by itself."""
    return await _step(context, bundle)


@capability("step.remembers", consumes={**_TAKES, "scope?": SCOPE, "key?": KEY}, produces=STEP)
async def remembers(bundle: Bundle, context: CallContext) -> dict[str, Any]:
    """Has it remembered that it was here; the second time under another revision."""
    scope, key = bundle.inputs.get("scope", "shared:durable"), bundle.inputs.get("key", context.node_id)
    context.remember(scope, key, {"attempt": context.attempt})
    return await _step(context, bundle)


@capability("step.counts", consumes={**_TAKES, "scope": SCOPE, "key": KEY}, produces=STEP)
async def counts(bundle: Bundle, context: CallContext) -> dict[str, Any]:
    """Adds one to a number, but only to the one that it has read."""
    scope, key = bundle.inputs["scope"], bundle.inputs["key"]
    context.remember(scope, key, bundle.memory[scope].get(key, 0) + 1, context.revision(scope, key))
    return await _step(context, bundle)
