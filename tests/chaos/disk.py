"""A disk that is full: a small one in memory for SQLite where we may mount one, triggers that refuse on PostgreSQL.

On PostgreSQL a write is refused when it is made, or only at its commit.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.durability.auditor import query

PREFIX = "flex-chaos-disk-"
SIZE_MIB = 512
TRIES = 20
REFUSED = (
    "CREATE SEQUENCE chaos_refused",
    "CREATE TABLE chaos_disk (refuses text NOT NULL)",
    "INSERT INTO chaos_disk VALUES ('')",
    """CREATE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
      IF (SELECT refuses FROM chaos_disk) = TG_ARGV[0] THEN
        PERFORM nextval('chaos_refused');
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
      END IF;
      RETURN NULL;
    END$$""",
)
TABLES = ("runs", "events", "nodes", "signals", "workers", "prompts")


class FullDisk:
    """Fills and frees a place for SQLite files: writing there fails with ENOSPC while it is full."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def fill(self) -> None:
        """Leave no room for another page."""
        for _ in range(TRIES):
            used = os.statvfs(self._place)
            if self._resize(str((used.f_blocks - used.f_bfree) * used.f_frsize)):
                return
        raise RuntimeError(f"{self._place} could not be filled")

    def is_full(self) -> bool:
        """Try to write a page."""
        try:
            with tempfile.TemporaryFile(dir=self._place, buffering=0) as file:
                file.write(bytes(65_536))
        except OSError as error:
            return error.errno == errno.ENOSPC
        return False

    def free(self) -> None:
        """Give the room back."""
        if not self._resize(f"{SIZE_MIB}m"):
            raise RuntimeError(f"{self._place} could not be freed")

    def _resize(self, size: str) -> bool:
        """Return whether it was done: what is written meanwhile may need more."""
        command = ["mount", "-o", f"remount,size={size}", str(self._place)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def may_mount() -> bool:
    """Whether this machine lets us have a disk of our own."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory(prefix=PREFIX) as place:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
        )
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
    return done.returncode == 0


@contextmanager
def small_disk() -> Iterator[Path]:
    """A directory on a disk of its own, unmounted at the end; what killed owners left is removed first."""
    _sweep()
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        _remove(place)


def _sweep() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(left)


def _remove(place: Path) -> None:
    # Lazily: a reader may still look, and its files go with the last of them.
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


async def install(url: str) -> None:
    """Add triggers to a PostgreSQL database that refuse every write while its disk is said to be full."""
    for statement in REFUSED:
        await query(url, statement)
    for table in TABLES:
        now = f"BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT"
        late = f"AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        await query(url, f"CREATE TRIGGER chaos_full_{table} {now} EXECUTE FUNCTION chaos_refuse('statement')")
        await query(url, f"CREATE CONSTRAINT TRIGGER chaos_late_{table} {late} EXECUTE FUNCTION chaos_refuse('commit')")


async def refuse(url: str, when: str) -> None:
    """Refuse writes at once (``statement``), at their ``commit``, or not at all (empty)."""
    await query(url, f"UPDATE chaos_disk SET refuses = '{when}'")


async def refused(url: str) -> int:
    """How many statements were refused so far."""
    rows = await query(url, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM chaos_refused")
    return int(rows[0][0])
