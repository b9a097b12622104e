"""What the harness may change in a running service: a small file per process, and what the process counted."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Control:
    """The orders of one process.

    ``offset_ms`` is added to its wall clock. Of nudges that reach it ``lost`` (a share) vanish, ``doubled`` come twice,
    and each comes up to ``late_ms`` later, so that they overtake one another. ``full``: SQLite may not grow.
    """

    offset_ms: int = 0
    lost: float = 0.0
    doubled: float = 0.0
    late_ms: int = 0
    full: bool = False
    seed: str = ""

    def write(self, path: Path) -> None:
        """Put it where the process looks; replaced as a whole, so it is never read half."""
        half = path.with_suffix(".half")
        half.write_text(json.dumps(asdict(self)), encoding="utf-8")
        half.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Control":
        """What is there; nothing special without a file."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()


@dataclass
class Counts:
    """What became of the nudges of one process; ``seed`` is that of the orders it obeys."""

    seed: str = ""
    passed: int = 0
    lost: int = 0
    doubled: int = 0
    late: int = 0

    def write(self, path: Path) -> None:
        """Leave the figures for the harness."""
        half = path.with_suffix(".half")
        half.write_text(json.dumps(asdict(self)), encoding="utf-8")
        half.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Counts":
        """The figures that a process left."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()
