"""The process that reads one foreign document: little memory, little time, no files, no network (R6).

``python -I -m stories.sandboxed MEDIA_TYPE CHARACTERS``: the document comes on standard input, and what became of it
goes to standard output as ``{"text": …}`` or ``{"error": …}``. Everything that is needed is imported before the limits
are drawn: afterwards nothing can be opened any more.
"""

from __future__ import annotations

import contextlib
import encodings
import importlib
import json
import pkgutil
import resource
import sys
from types import ModuleType
from typing import Final

from stories.cutting import cut

MODULES: Final = {
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "spreadsheets",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "slides",
    "application/vnd.oasis.opendocument.text": "opendocument",
}
"""Media type → the module that reads it, with ``text`` and ``PARSERS``; ``stories/readers.py`` reads the others.

A process loads the one that it needs: each parser takes some tenths of a second to load.
"""
MEMORY_BYTES: Final = 1024 * 1024 * 1024
CPU_SECONDS: Final = 20


def prepare(module: ModuleType) -> None:
    """Load what the parsers of a module load only when a document needs it."""
    for package in (encodings, *module.PARSERS):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Some are for other systems, or for libraries that are not here.
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)


def draw_limits() -> None:
    """Give up memory beyond a bound, time beyond a bound, and every file but the three that are open."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def main(media_type: str, characters: int) -> None:
    """Read the document."""
    module = importlib.import_module(f"stories.{MODULES.get(media_type, 'readers')}")
    prepare(module)
    draw_limits()
    said: dict[str, str]
    try:
        take = module.text if media_type in MODULES else module.READERS[media_type]
        said = {"text": cut(take(sys.stdin.buffer.read()), characters)}
    except MemoryError:
        said = {"error": "It needs more memory than a document may."}
    except RecursionError:
        said = {"error": "It is nested too deeply."}
    except Exception as error:  # noqa: BLE001  # whatever a parser raises for a broken document says why it has no text
        said = {"error": f"{type(error).__name__}: {error}"[:500]}
    # Half of a surrogate pair, which some documents hold, cannot be written.
    sys.stdout.buffer.write(json.dumps(said).encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
