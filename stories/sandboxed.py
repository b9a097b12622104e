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
from typing import Final

import docx
import pypdf

from stories.readers import read

MEMORY_BYTES: Final = 1024 * 1024 * 1024
CPU_SECONDS: Final = 20


def prepare() -> None:
    """Load what parsers load only when a document needs it."""
    for package in (encodings, docx, pypdf):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Some are for other systems, or for libraries that are not here.
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def draw_limits() -> None:
    """Give up memory beyond a bound, time beyond a bound, and every file but the three that are open."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def main(media_type: str, characters: int) -> None:
    """Read the document."""
    prepare()
    draw_limits()
    said: dict[str, str]
    try:
        said = {"text": read(sys.stdin.buffer.read(), media_type, characters)}
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
