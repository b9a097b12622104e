"""Python files of the agents folder: capability files as they are, and PocketFlow flows that know nothing of flex (R2).

A file that declares no capability itself is an agent when it has a PocketFlow flow: a global called ``flow``, else the
one function called ``create_flow`` (or ``create_…_flow``), else its only global flow. ``RESULT`` names the key of
``shared`` that is the result; ``CONSUMES``, ``PRODUCES`` and ``EFFECTS`` are those of a capability.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pocketflow

from capabilities.agent_files import MODULE, FoundFile, read_text
from capabilities.declarations import DeclarationError, named, parameters, produced
from capabilities.loading import Declared, collect, declarations, explained
from capabilities.markdown_agent import AGENT_ID, PREFIX
from capabilities.pocketflow import PocketFlowCapability
from contracts.agents import AgentFault
from contracts.capability import CapabilitySpec

_MAKER: Final = re.compile(r"create_(\w+_)?flow")


def load_python(file: FoundFile) -> Declared | AgentFault:
    """Run a file once and return what it declares; a fault says the line of the file that led to it."""
    text = read_text(file)
    if isinstance(text, AgentFault):
        return text
    place = file.path.resolve()
    name = f"_flex_agents_{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"
    module, before = ModuleType(name), sys.modules.get(name)
    module.__file__ = str(place)
    # Dataclasses and annotations look their module up by name.
    sys.modules[name] = module
    try:
        with _neighbours(place.parent if place.name == MODULE else None):
            exec(compile(text, str(place), "exec"), module.__dict__)  # noqa: S102  # the operator's own file, at start
            declared = collect(file.source, declarations(module))
            if declared.facets or declared.capabilities:
                return declared
            found = _of_pocketflow(module, file, text)
    except SyntaxError as error:
        found = _not_python(error, place, file)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the file raises is its fault, and is told
        found = _fault(error, place, file)
    if isinstance(found, AgentFault):
        _put_back(name, before)
    return found


def _put_back(name: str, before: ModuleType | None) -> None:
    """Have the name mean what it did: the version before may still be at work."""
    if before is None:
        del sys.modules[name]
    else:
        sys.modules[name] = before


def agent_name(file: FoundFile) -> str:
    """Return the id of the agent that a file without ids of its own is: its name, or that of its directory."""
    return file.path.parent.name if file.path.name == MODULE else file.path.stem


@contextmanager
def _neighbours(folder: Path | None) -> Iterator[None]:
    """Let a file import the modules beside it, whose names are nobody else's afterwards.

    Two folders may both have a ``nodes.py``. Nothing is written beside the operator's files.
    """
    if folder is None:
        yield
        return
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name[0] != ".")}
    hidden = _pop(names)
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    sys.path_importer_cache.pop(str(folder), None)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = wrote
        _pop(names)
        sys.modules.update(hidden)


def _pop(names: set[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}


def _of_pocketflow(module: ModuleType, file: FoundFile, text: str) -> Declared | AgentFault:
    found = _root(module)
    if isinstance(found, AgentFault):
        return found
    name, root = found
    agent_id = agent_name(file)
    if AGENT_ID.fullmatch(agent_id) is None:
        return AgentFault("bad_id", f"{agent_id!r} is no id: letters, digits, _ . - and at most 64 of them.")
    said = (module.__doc__ or type(root).__doc__ or "").strip().partition("\n")[0]
    spec = CapabilitySpec(
        PREFIX + agent_id,
        description=said,
        consumes=parameters(getattr(module, "CONSUMES", {})),
        produces=produced(getattr(module, "PRODUCES", ())),
        effects=getattr(module, "EFFECTS", "none"),
        scopes=named(getattr(module, "SCOPES", ())),
        latency_ms=100,
    )
    place = f"{file.path.resolve()}:{_line_of(text, name)}"
    made = PocketFlowCapability(root, spec, str(getattr(module, "RESULT", "result")), {}, place)
    return Declared(file.source, (), (made,))


def _root(module: ModuleType) -> tuple[str, Any] | AgentFault:
    """Return the flow that a module is about, and the name that it has there."""
    values = vars(module)
    if isinstance(values.get("flow"), pocketflow.BaseNode):
        return "flow", values["flow"]
    own = {name: value for name, value in values.items() if inspect.isfunction(value)}
    makers = [name for name in own if _MAKER.fullmatch(name) and own[name].__module__ == module.__name__]
    if "create_flow" in makers or len(makers) == 1:
        name = "create_flow" if "create_flow" in makers else makers[0]
        made = own[name]()
        if isinstance(made, pocketflow.BaseNode):
            return name, made
        return AgentFault("no_agent", f"{name}() returned {type(made).__name__}, which is no PocketFlow node.")
    flows = {name: value for name, value in values.items() if isinstance(value, pocketflow.Flow)}
    if len(flows) == 1:
        return next(iter(flows.items()))
    several = ", ".join(sorted({*makers, *flows}))
    why = f"Several could be meant ({several}); call one of them flow." if several else "There is no flow in it."
    return AgentFault("no_agent", f"It declares no capability. {why}")


def _line_of(text: str, name: str) -> int:
    """Return the line where a global gets its name."""
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        named = [target.id for target in targets if isinstance(target, ast.Name)]
        if name in named or (isinstance(node, ast.FunctionDef) and node.name == name):
            return node.lineno
    return 1


def _not_python(error: SyntaxError, place: Path, file: FoundFile) -> AgentFault:
    if error.filename == str(place):
        return AgentFault("python_error", f"It is not Python: {error.msg}.", error.lineno)
    other = Path(error.filename or "").name
    line = explained(file.source, place, error).line
    return AgentFault("python_error", f"{other}, line {error.lineno}, is not Python: {error.msg}.", line)


def _fault(error: BaseException, place: Path, file: FoundFile) -> AgentFault:
    told = explained(file.source, place, error)
    line = told.line
    if isinstance(error, DeclarationError) and error.place.startswith(f"{place}:"):
        line = int(error.place.rpartition(":")[2])
    return AgentFault("python_error", told.message, line)
