"""A real PostgreSQL for tests, benchmarks and chaos runs: durable settings, a private directory, no privileges.

    with postgres_server() as server:
        server.create_database("one")
        url = server.url("one")          # postgresql+asyncpg://…
        server.kill()                    # power cut
        server.start()                   # recovery

A server belongs to the process and thread that started it: when they end, however they end, it ends too.
"""

import atexit
import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.postgres_install import Account, account, binaries, locked, memory_root, private_root

USER = "flex"
HOST = "127.0.0.1"
LAUNCHER = Path(__file__).with_name("postgres_launch.py")
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
StopMode = Literal["smart", "fast", "immediate"]
# fsync and synchronous_commit stay on: tests and benchmarks measure what production promises.
SETTINGS = {"max_connections": "200", "fsync": "on", "synchronous_commit": "on", "log_min_messages": "warning"}


class PostgresError(RuntimeError):
    """A server did not do what it was told; the message carries the end of its log."""


def free_port() -> int:
    """A TCP port nobody listens on.

    Below the ephemeral range: a client that retries while the server is down could else be given that very port and
    connect to itself.
    """
    span = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(span.read_text().split()[0]) if span.exists() else 32768
    choose = random.SystemRandom()
    for _ in range(200):
        port = choose.randrange(min(15000, lowest - 1000), lowest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise PostgresError("no free port")


def _sweep(root: Path) -> None:
    """Remove clusters whose owner was killed before it could (an owner holds a lock on its cluster's directory)."""
    for cluster in root.glob("cluster-*"):
        descriptor = os.open(cluster, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(cluster, ignore_errors=True)
        except BlockingIOError:
            pass  # its owner lives
        finally:
            os.close(descriptor)


class PostgresServer:
    """One cluster in a private directory. Not thread-safe; start it from a thread that outlives it."""

    def __init__(self, *, in_memory: bool = False, **settings: str) -> None:
        """Create the cluster (initdb) without starting it; `settings` go to the server as `-c name=value`.

        In memory its files survive every crash but the machine's. Tests use that: removing a database whose files
        were synced to a disk can take half a second. Measure on the disk.
        """
        self.port = free_port()
        self.password = secrets.token_urlsafe(24)
        self._settings = SETTINGS | settings
        self._account: Account = account()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.bin = binaries()
        self.directory, self._lock = self._claim_directory(memory_root() if in_memory else private_root())
        self._initialise()

    # --- addresses ---

    def url(self, database: str) -> str:
        """The SQLAlchemy address of a database (asyncpg)."""
        return f"postgresql+asyncpg://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def dsn(self, database: str) -> str:
        """The same for a driver: libpq and asyncpg read it."""
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id.

        Raises:
            PostgresError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise PostgresError("PostgreSQL is not running")
        return self._process.pid

    # --- life ---

    def start(self, timeout: float = 60.0) -> None:
        """Start and return once it accepts connections, crash recovery included.

        Raises:
            PostgresError: it did not come up within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.running():
            self._launch()
            self._await_answer(deadline)
            # A server that ends at once may have met a crashed one's shared memory, or a port taken a moment ago.
            if not self.running() and time.monotonic() > deadline - timeout / 2:
                raise PostgresError(f"PostgreSQL did not start\n{self.log_tail()}")

    def stop(self, mode: StopMode = "fast", timeout: float = 60.0) -> None:
        """Stop: `smart` waits for clients, `fast` rolls them back, `immediate` leaves recovery to the next start."""
        if self._process is None:
            return
        if self.running():
            self._process.send_signal(SIGNALS[mode])
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start on the same port with the same data."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL the postmaster and its processes, as a crash would; `start` recovers."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        known = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        process.kill()
        process.wait()
        for pid in known:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop and remove the cluster. Safe to call twice; a forked child's copy does nothing."""
        if self._owner != os.getpid() or self._lock < 0:
            return
        self.stop("immediate", timeout=20.0)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    # --- databases ---

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Run SQL with psql, outside every event loop; returns unaligned rows without headers."""
        options = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]
        command = [str(self.bin / "psql"), *options, "-c", statements]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PostgresError(f"{statements}\n{done.stderr.strip()}")
        return done.stdout.strip()

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database, a copy of `template` (which nobody may be connected to)."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name: str) -> None:
        """Drop a database whoever is still connected to it."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def log_tail(self, lines: int = 30) -> str:
        """The end of the server's log."""
        log = self.directory / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"

    # --- inside ---

    def _claim_directory(self, root: Path) -> tuple[Path, int]:
        with locked(root):
            _sweep(root)
            directory = Path(tempfile.mkdtemp(prefix="cluster-", dir=root))
            lock = os.open(directory, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return directory, lock

    def _environment(self) -> dict[str, str]:
        return {"LC_ALL": "C", "TZ": "UTC", "TMPDIR": str(self.directory), "PATH": os.defpath}

    def _initialise(self) -> None:
        secret = self.directory / "secret"
        secret.write_text(self.password)
        for path in (secret, self.directory):
            os.chown(path, self._account.uid, self._account.gid)
            path.chmod(0o700 if path.is_dir() else 0o600)
        # The password is random and long, so one round of hashing is enough and connecting stays cheap.
        options = ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--no-locale", "--no-sync"]
        data = str(self.directory / "data")
        command = [str(self.bin / "initdb"), "-D", data, "-U", USER, *options, "-c", "scram_iterations=1"]
        done = subprocess.run(
            self._as_account(command),
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        secret.unlink()
        if done.returncode != 0:
            self.close()
            raise PostgresError(f"initdb failed\n{done.stdout}\n{done.stderr}")

    def _as_account(self, command: list[str]) -> list[str]:
        who = [str(self._account.uid), str(self._account.gid)] if self._account.switch else ["-", "-"]
        return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *who, *command]

    def _command(self) -> list[str]:
        # A socket's path has room for about a hundred bytes.
        sockets = str(self.directory) if len(str(self.directory)) < 80 else ""
        settings = self._settings | {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": sockets,
        }
        pairs = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin / "postgres"), "-D", str(self.directory / "data"), *pairs]

    def _launch(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_account(self._command()),
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop the server when we are done with it
            )

    def _await_answer(self, deadline: float) -> None:
        while self.running() and not self._answers():
            if time.monotonic() > deadline:
                self.kill()
                raise PostgresError(f"PostgreSQL was not ready in time\n{self.log_tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        command = [str(self.bin / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port), "-t", "5"]
        return subprocess.run(command, env=self._environment(), check=False).returncode == 0


@contextmanager
def postgres_server(*, in_memory: bool = False, **settings: str) -> Iterator[PostgresServer]:
    """A started server, stopped and removed at the end (at exit, if the block is never left)."""
    server = PostgresServer(in_memory=in_memory, **settings)
    atexit.register(server.close)
    try:
        server.start()
        yield server
    finally:
        server.close()
        atexit.unregister(server.close)
