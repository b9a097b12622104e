"""A model whose replies a test writes down beforehand: aimock, an OpenAI-compatible server that nobody here wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

HERE = Path(__file__).parent
BY_HAND = "run `npm ci` in tests/model (`make test` does it); it needs Node.js 20 or newer"
HANGS: dict[str, Any] = {"response": {"content": "too late"}, "streamingProfile": {"ttft": 600_000}}
"""A reply that never comes."""
USAGE = {"prompt_tokens": 80, "completion_tokens": 20, "total_tokens": 100}


def says(content: Any) -> dict[str, Any]:
    """A reply of 100 tokens; anything but a text is sent as JSON."""
    return {"response": {"content": content, "usage": USAGE}}


def calls(*asked: tuple[str, Any], content: str | None = None) -> dict[str, Any]:
    """A reply of 100 tokens that asks for tools: (name, arguments) each; arguments may be a text that is no JSON."""
    tools = [
        {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given), "id": f"call_{place}"}
        for place, (name, given) in enumerate(asked)
    ]
    return {"response": {"toolCalls": tools, "usage": USAGE, **({} if content is None else {"content": content})}}


def fails(status: int, message: str = "later") -> dict[str, Any]:
    """A refusal of the endpoint."""
    return {"response": {"error": {"message": message, "type": "server_error"}, "status": status}}


class Script:
    """What one model says, in order, and what it was told."""

    def __init__(self, base: str, name: str) -> None:
        self.base, self.name = base, name
        self._client = httpx2.Client(base_url=base, timeout=10)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a service that asks this model; 1,000 tokens cost 1 in and 2 out."""
        return {
            "model_base_url": f"{self.base}/v1", "model": self.name, "model_price_in": 1.0, "model_price_out": 2.0,
        }  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The same for a process."""
        return {f"FLEX_{name.upper()}": str(value) for name, value in self.settings.items()}

    def will(self, *replies: dict[str, Any]) -> None:
        """Write the replies down; a request beyond the last is refused by the server."""
        fixtures = [
            {"match": {"model": self.name, "sequenceIndex": place}, **reply} for place, reply in enumerate(replies)
        ]
        answer = self._client.post("/__aimock/fixtures", json={"fixtures": fixtures})
        assert answer.status_code == 200, answer.text

    def say_always(self, asks: dict[str, Any], answers: dict[str, Any]) -> None:
        """Ask for the same calls whenever somebody speaks, and answer the same whenever tools have spoken."""
        fixtures = [
            {"match": {"model": self.name, "hasToolResult": True}, **answers},
            {"match": {"model": self.name}, **asks},
        ]
        answer = self._client.post("/__aimock/fixtures", json={"fixtures": fixtures})
        assert answer.status_code == 200, answer.text

    def told(self) -> list[list[dict[str, str]]]:
        """The messages of every request so far."""
        entries = self._client.get("/__aimock/journal").json()
        bodies = [entry["body"] for entry in entries if entry["body"].get("model") == self.name]
        return [body["messages"] for body in bodies]

    def bodies(self) -> list[dict[str, Any]]:
        """Every request so far, whole."""
        entries = self._client.get("/__aimock/journal").json()
        return [entry["body"] for entry in entries if entry["body"].get("model") == self.name]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def model_server() -> Iterator[str]:
    """Run the server until the block ends; yields its URL."""
    node = shutil.which("node")
    assert node is not None, BY_HAND
    assert (HERE / "node_modules" / "@copilotkit").is_dir(), BY_HAND
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([node, "server.mjs"], cwd=HERE, **pipes) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), f"the model server said {url!r}"
        yield url
        run.stdin.close()
        assert run.wait(10) == 0


def pretty(messages: list[dict[str, str]]) -> str:
    """All of one request's text."""
    return "\n".join(message["content"] for message in messages)


def quoted(name: str, messages: list[dict[str, str]]) -> Any:
    """The data that one request quotes between ``<name>`` and its end."""
    text = pretty(messages[1:])
    return json.loads(text.split(f"<{name}>\n", 1)[1].split(f"\n</{name}>", 1)[0])
