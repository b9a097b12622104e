"""Capabilities from outside this package: a Python file the operator names, or an installed plug-in (F15).

Only the operator chooses what is loaded, at start; nothing from a request ever is (R6).
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from capabilities.authoring import CapabilityBase
from capabilities.declarations import DeclarationError
from contracts.capability import Capability, Facet

ENTRY_POINTS: Final = "flex.capabilities"


class CapabilityFileError(Exception):
    """A capability file cannot be used; ``path`` and ``line`` (None when there is none) say where."""

    def __init__(self, path: str, line: int | None, message: str) -> None:
        """Keep the three."""
        self.path, self.line, self.message = path, line, message
        super().__init__(f"{path}:{line}: {message}" if line is not None else f"{path}: {message}")


@dataclass(frozen=True, slots=True)
class Declared:
    """What one source declares, and its name for people."""

    source: str
    facets: tuple[Facet, ...]
    capabilities: tuple[Capability, ...]


def from_file(path: Path) -> Declared:
    """Import a file under a private name and collect what it declares. Raises :class:`CapabilityFileError`.

    The file runs once; facets and capabilities must be reachable as its global names. Classes of
    :class:`CapabilityBase` that it defines and does not instantiate itself are built without arguments.
    """
    place = path.resolve()
    if not place.is_file():
        raise CapabilityFileError(str(path), None, "there is no such file")
    name = f"_flex_capabilities_{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise CapabilityFileError(str(path), None, "it is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        declared = collect(str(path), declarations(module))
    except SyntaxError as error:
        del sys.modules[name]
        raise CapabilityFileError(str(path), error.lineno, f"it is not Python: {error.msg}") from error
    except Exception as error:
        del sys.modules[name]
        raise explained(str(path), place, error) from error
    if not declared.facets and not declared.capabilities:
        raise CapabilityFileError(str(path), None, "it declares no facet and no capability as a global name")
    return declared


def from_entry_points(group: str = ENTRY_POINTS) -> Iterator[Declared]:
    """Yield what every entry point of the group declares: a module, a facet, a capability, or a list of them.

    Raises :class:`CapabilityFileError` with the entry point's name for one that does not load.
    """
    for point in sorted(entry_points(group=group), key=lambda each: (each.name, each.value)):
        yield _from_entry_point(point)


def _from_entry_point(point: EntryPoint) -> Declared:
    source = f"entry point {point.group}: {point.name} = {point.value}"
    try:
        loaded = point.load()
        declared = collect(source, declarations(loaded) if isinstance(loaded, ModuleType) else _flat(loaded))
    except Exception as error:
        raise CapabilityFileError(source, None, f"{type(error).__name__}: {error}") from error
    if not declared.facets and not declared.capabilities:
        raise CapabilityFileError(source, None, "it declares no facet and no capability")
    return declared


def _flat(loaded: object) -> Iterator[object]:
    if isinstance(loaded, list | tuple):
        yield from loaded
    else:
        yield loaded


def declarations(module: ModuleType) -> Iterator[object]:
    """Yield the global values of a module, with its capability classes built unless it built them itself."""
    values = list(vars(module).values())
    yield from values
    built = {type(value) for value in values}
    for value in values:
        own = isinstance(value, type) and issubclass(value, CapabilityBase) and value.__module__ == module.__name__
        if own and value not in built and not inspect.isabstract(value) and hasattr(value, "spec"):
            yield value()


def collect(source: str, values: Iterable[object]) -> Declared:
    """Return the facets and capabilities among the values, each once."""
    facets: dict[int, Facet] = {}
    capabilities: dict[int, Capability] = {}
    for value in values:
        if isinstance(value, Facet):
            facets[id(value)] = value
        elif isinstance(value, Capability) and not isinstance(value, type):
            capabilities[id(value)] = value
    return Declared(source, tuple(facets.values()), tuple(capabilities.values()))


def explained(shown: str, place: Path, error: BaseException) -> CapabilityFileError:
    """Return the error with the last line of the file itself that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(place)]
    said = error.message if isinstance(error, DeclarationError) else f"{type(error).__name__}: {error}"
    return CapabilityFileError(shown, lines[-1] if lines else None, said)
