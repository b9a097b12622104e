"""The service in a process of its own, as people start it: killed, stopped and drained by its own pid."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Self

import httpx2

from tests.durability.nursery import Process, nursery
from tests.durability.waiting import until
from tests.postgres import free_port

ROOT = Path(__file__).parents[2]
STEPS = Path(__file__).with_name("steps.py")
FLEX = [sys.executable, "-c", "from app.cli import main; main()"]
LEASE_SECONDS = 0.6
START_SECONDS = 20.0


class World:
    """What outlives every process of a test: the database, the file of effects, the gates, the logs."""

    def __init__(self, url: str, place: Path) -> None:
        self.url, self.place = url, place
        self.effects = place / "effects.jsonl"
        self.gates = place / "gates"
        self.gates.mkdir()

    def open_gate(self, name: str) -> None:
        """Let the steps that wait for this gate end."""
        (self.gates / name).touch()

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEX_", "COVERAGE_"))}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "STEPS_LOG": str(self.effects),
            "STEPS_GATES": str(self.gates),
            "FLEX_DATABASE_URL": self.url,
            "FLEX_LEASE_SECONDS": str(LEASE_SECONDS),
            "FLEX_FEED_TICK_SECONDS": "0.1",
            "FLEX_DRAIN_SECONDS": "1",
            "FLEX_LOG_FORMAT": "json",
            **more,
        }


class Service:
    """One ``flex serve``; it can be started again on its port after it died. Use it as a context manager."""

    def __init__(self, world: World, **env: str) -> None:
        self.world, self.port, self._env = world, free_port(), env
        self.base = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None
        self.log = world.place / f"service-{self.port}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def launch(self, crash_at: str | None = None) -> None:
        """Start the process; returns at once."""
        assert self._process is None or self._process.poll() is not None, "it still runs"
        armed = {} if crash_at is None else {"FLEX_CRASH_AT": crash_at}
        env = self.world.environment(**self._env, **armed)
        self._process = nursery().start(self._command(), env=env, cwd=self.world.place, log=self.log)

    def _command(self) -> list[str]:
        return [*FLEX, "serve", "--port", str(self.port), "--capabilities", str(STEPS)]

    async def ready(self) -> None:
        """Wait until it says that it is ready."""

        async def says_so() -> bool:
            assert self.alive, f"it ended with {self.code}\n{self.said()}"
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        async with httpx2.AsyncClient(base_url=self.base, timeout=5) as client:
            await until(says_so, START_SECONDS, "ready")

    async def start(self, crash_at: str | None = None) -> None:
        """Start it and wait until it is ready."""
        self.launch(crash_at)
        await self.ready()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code; negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    async def ended(self, seconds: float) -> int:
        """Wait for its end and return the exit code."""
        await until(lambda: not self.alive, seconds, f"the end of the service\n{self.said()}")
        assert self.code is not None
        return self.code

    def kill(self) -> float:
        """SIGKILL, now; returns the monotonic time of it."""
        assert self._process is not None
        at = time.monotonic()
        self._process.kill()
        self._process.wait(10)
        return at

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        os.kill(self.pid, number)

    def rss_kib(self) -> int:
        """Resident memory of the process, KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def said(self, lines: int = 25) -> str:
        """The end of what it logged."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.alive:
            assert self._process is not None
            self.send(signal.SIGCONT)
            self.kill()
