"""What `make run` does: starts the service, posts an envelope, decides as the operator, ends with the validated output.

It uses nothing but HTTP and Server-Sent Events, so it can be read as the smallest client of flex.
`KEEP=1` leaves the service running afterwards, until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

HERE = Path(__file__).resolve().parent
ENVELOPE = HERE / "linkedin" / "envelope.json"
SECONDS = 60
STOP_SECONDS = 15
COLOURS = {"hitl_request": "35", "hitl_resolved": "35", "complete": "1;32", "failed": "1;31", "cancelled": "1;33"}
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class Trouble(Exception):
    """The demonstration cannot go on; the message says why."""


def say(text: str = "", colour: str = "") -> None:
    """Print at once, coloured on a terminal only."""
    print(f"\x1b[{colour}m{text}\x1b[0m" if colour and COLOURED else text, flush=True)


# --- the service, as a child process ---


@asynccontextmanager
async def service(directory: Path) -> AsyncIterator[str]:
    """Start `flex serve` on a free loopback port and yield its address; stop it by its pid at the end."""
    command = [str(Path(sys.executable).with_name("flex")), "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--database-url", f"sqlite+aiosqlite:///{directory / 'flex.db'}"]
    logs = {"FLEX_LOG_FORMAT": "json", "FLEX_LOG_LEVEL": "info"}
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **logs}, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    reading: asyncio.Task[None] | None = None
    try:
        address = await _address(_log_of(process))
        reading = asyncio.create_task(_show_warnings(_log_of(process)))
        say(f"flex serve runs as process {process.pid} at {address}, on SQLite in {directory}")
        yield address
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await _ended(process, reading)


def _log_of(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stderr is None:
        raise Trouble("The service was started without a log to read.")
    return process.stderr


async def _address(log: asyncio.StreamReader) -> str:
    """Read the service's log up to the line that says where it listens."""
    said: deque[str] = deque(maxlen=20)
    while line := await log.readline():
        said.append(line.decode(errors="replace").rstrip())
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if event.get("event") == "serving":
                return str(event["address"])
    raise Trouble("\n".join(["The service ended before it served. Its last words:", *said]))


async def _show_warnings(log: asyncio.StreamReader) -> None:
    """Keep reading, so that the service never blocks on a full pipe; show what is worth it."""
    while line := await log.readline():
        if b'"level":"warning"' in line or b'"level":"error"' in line:
            say(f"service: {line.decode(errors='replace').rstrip()}", "33")


async def _ended(process: asyncio.subprocess.Process, reading: asyncio.Task[None] | None) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
            if reading is not None:
                await reading
    except TimeoutError:
        process.kill()
        await process.wait()
    say(f"The service has stopped (exit code {process.returncode}).")


# --- one run ---


async def run(address: str, envelope: dict[str, Any]) -> dict[str, Any]:
    """Post the envelope, follow its stream, decide its prompt, and return the terminal frame."""
    # A proxy of the environment has no business between two processes of this machine.
    async with httpx2.AsyncClient(base_url=address, timeout=SECONDS, trust_env=False) as viewer:
        await _ready(viewer)
        say(f"POST {address}/api/v1/flex/run.stream\n")
        async with viewer.stream("POST", "/api/v1/flex/run.stream", json=envelope) as response:
            if response.is_error:
                await response.aread()
                raise Trouble(f"The envelope was refused: {response.text}")
            async for event in httpx2.EventSource(response):
                if not event.data:
                    continue
                frame = json.loads(event.data)
                show(frame)
                if frame["type"] == "hitl_request":
                    await decide(address, frame["payload"]["prompt"])
                if frame["type"] in ("complete", "failed", "cancelled"):
                    return dict(frame)
    raise Trouble("The stream ended without a terminal frame.")


async def _ready(client: httpx2.AsyncClient) -> None:
    for _ in range(10 * SECONDS):
        if (await client.get("/readyz")).status_code == 200:
            return
        await asyncio.sleep(0.1)


async def decide(address: str, prompt: dict[str, Any]) -> None:
    """Approve, as the operator would, on a connection of its own while the stream stays open."""
    if "approve" not in prompt["actions"]:
        offered = ", ".join(prompt["actions"])
        raise Trouble(f"This prompt wants more than a yes ({offered}): {prompt['question']}")
    body = {"action": "approve", "comment": "Looks good.", "bound_hash": prompt["bound_hash"]}
    say(f"\n      The run waits for a person. On a second connection: POST {prompt['links']['decide']}", "35")
    async with httpx2.AsyncClient(base_url=address, timeout=SECONDS, trust_env=False) as operator:
        answer = await operator.post(prompt["links"]["decide"], json=body)
    if answer.is_error:
        raise Trouble(f"The decision was refused: {answer.text}")
    said = answer.json()
    decision, status = said["decision"], said["prompt"]["status"]
    say(f"      {decision['action']} by {decision['decided_by']}: the prompt is {status}\n", "35")


# --- frames as lines ---


def show(frame: dict[str, Any]) -> None:
    """Print a frame on one line: id, type, node, and what is most worth knowing."""
    number = "" if frame["id"] is None else str(frame["id"])
    line = f"{number:>4}  {frame['type']:<16}{frame['node_id'] or '':<16}{about(frame['type'], frame['payload'])}"
    say(line.rstrip(), COLOURS.get(frame["type"], ""))


def about(kind: str, payload: dict[str, Any]) -> str:
    """Return the gist of a payload."""
    read = GISTS.get(kind)
    gist = json.dumps(payload, ensure_ascii=False) if read is None else read(payload)
    return gist if len(gist) <= 100 else gist[:99] + "…"


GISTS: dict[str, Callable[[Any], str]] = {
    "start": lambda payload: str(payload["objective"]),
    "plan_requested": lambda payload: str(payload["strategy"]),
    "plan_generated": lambda payload: " → ".join(node["node_id"] for node in payload["plan"]["nodes"]),
    "plan_rejected": lambda payload: "; ".join(found["message"] for found in payload["findings"]),
    "node_start": lambda payload: str(payload["capability_id"] or payload["kind"]),
    "node_complete": lambda payload: f"{payload['duration_ms']} ms",
    "hitl_request": lambda payload: str(payload["prompt"]["question"]),
    "hitl_resolved": lambda payload: str(payload["status"]),
    "run_waiting": lambda payload: ", ".join(payload["waiting_on"]),
    "run_resumed": lambda payload: str(payload["cause"]),
    "complete": lambda payload: f"{payload['duration_ms']} ms of work, {payload['waited_ms']} ms of waiting",
}


# --- the demonstration ---


async def demonstrate() -> int:
    """Return 0 only if a `complete` frame arrived."""
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    envelope = json.loads(ENVELOPE.read_text(encoding="utf-8"))
    keep = os.environ.get("KEEP", "") not in ("", "0")
    with tempfile.TemporaryDirectory(prefix="flex-") as directory:
        async with asyncio.timeout(SECONDS) as limit, service(Path(directory)) as address:
            last = await run(address, envelope)
            complete = last["type"] == "complete"
            if complete:
                say("\nThe output, valid against the caller's own JSON Schema:\n")
                say(json.dumps(last["payload"]["output"], indent=2, ensure_ascii=False))
            say(how_to_go_on(address if keep else None))
            if keep:
                limit.reschedule(None)
                await asyncio.Event().wait()
    return 0 if complete else 1


def how_to_go_on(address: str | None) -> str:
    """Return what to type next; ``address`` is there when the service stays up."""
    base = address or "http://127.0.0.1:8000"
    start = "" if address else "  .venv/bin/flex serve            the service; KEEP=1 make run keeps this one\n"
    end = f"\nThe service stays up at {address}. Ctrl-C stops it." if address else ""
    return f"""
Your turn:
{start}  curl -N {base}/api/v1/flex/run.stream \\
      -H 'Content-Type: application/json' -d @examples/linkedin/envelope.json
  .venv/bin/flex run examples/linkedin/envelope.json      the same without a server; it asks you
  {base}/docs                      every route; docs/quickstart.md goes on from here
{end}"""


def main() -> int:
    """Run the demonstration; 130 after Ctrl-C or SIGTERM, 1 when it did not end well."""
    try:
        return asyncio.run(demonstrate())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except TimeoutError:
        say(f"This did not end within {SECONDS} seconds.", "1;31")
    except (Trouble, httpx2.HTTPError) as error:
        say(str(error) or type(error).__name__, "1;31")
    except BrokenPipeError:
        # Whoever read our lines has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
