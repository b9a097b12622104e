"""Service processes that start at once: forked from one that has imported flex already.

A new interpreter spends more than a second of CPU on imports, and tests that kill a service start hundreds. What is
forked is a process like any other: its own memory, its own connections, killed and stopped by its own pid.

    process = nursery().start([sys.executable, "-c", "…", "serve"], env=…, cwd=…, log=…)
    process.kill()
"""

import atexit
import gc
import json
import os
import queue
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Condition, Thread
from typing import Any

ROOT = Path(__file__).parents[2]
PRELOADED = ("app.cli", "app.serve", "app.wiring", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on")
START_SECONDS = 60.0


class Process:
    """What ``subprocess.Popen`` would be for a process of the nursery."""

    def __init__(self, home: "Nursery", pid: int) -> None:
        self._home, self.pid = home, pid

    def poll(self) -> int | None:
        """The exit code; negative for a signal; None while it runs."""
        return self._home.codes.get(self.pid)

    def wait(self, seconds: float) -> int:
        """Wait for its end, so long at most (``TimeoutError``), and return the exit code."""
        with self._home.changed:
            if not self._home.changed.wait_for(lambda: self.pid in self._home.codes, seconds):
                raise TimeoutError(f"process {self.pid} did not end within {seconds:g} s")
        return self._home.codes[self.pid]

    def kill(self) -> None:
        """SIGKILL it, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """The process that everything is forked from, and what is known of its children."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEX_", "COVERAGE_"))}
        command = [sys.executable, "-m", "tests.durability.nursery"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=ROOT, env=kept | {"PYTHONPATH": str(ROOT)}, **pipes)
        self.codes: dict[int, int] = {}
        self.changed = Condition()
        self._born: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        atexit.register(self.close)

    def start(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Process:
        """Fork a process that does what ``command`` (Python, ``-c`` or ``-m``) would do; its output goes to ``log``."""
        order = {"command": list(command[1:]), "env": dict(env), "cwd": str(cwd), "log": str(log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Process(self, self._born.get(timeout=START_SECONDS))

    def close(self) -> None:
        """Let it end; safe to call twice."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "code" not in said:
                self._born.put(said["pid"])
                continue
            with self.changed:
                self.codes[said["pid"]] = said["code"]
                self.changed.notify_all()


@cache
def nursery() -> Nursery:
    """This process's nursery, started when it is first asked for."""
    return Nursery()


# --- the other side ---


def _tell(replies: int, **said: int) -> None:
    os.write(replies, json.dumps(said).encode() + b"\n")


def _reap(replies: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(replies, pid=pid, code=os.waitstatus_to_exitcode(status))


def _next_order(replies: int) -> dict[str, Any] | None:
    """Serve orders; returns in a new child with what it is to do, and in the nursery at its end with None."""
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    rest = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4_096)
            _reap(replies)
        if 0 not in ready:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            return None
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (wake, woken, replies):
                    os.close(descriptor)
                order: dict[str, Any] = json.loads(line)
                return order
            _tell(replies, pid=pid)


def _become(order: dict[str, Any]) -> None:
    """Be the process that the order asks for, up to its end."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    how, what, *arguments = order["command"]
    sys.argv = ["-c" if how == "-c" else what, *arguments]
    if how == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102  # as Python itself would
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)


def main() -> None:
    """Import everything, then fork what is ordered on standard input until that ends."""
    replies = os.dup(1)
    os.dup2(2, 1)  # what is imported may print; it must not speak for us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in PRELOADED:
        import_module(name)
    gc.freeze()
    order = _next_order(replies)
    if order is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _become(order)


if __name__ == "__main__":
    main()
