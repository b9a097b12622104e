"""The rules of the house that can be measured. Imports are import-linter's, style is ruff's (pyproject.toml)."""

import ast
import re
from pathlib import Path
from typing import Any

from tests.house import measure
from tests.house.measure import AROUND, ROOT, place, project, python, rooms

FILE_CAP, FILE_AIM = 500, 300
FUNCTION_CAP, FUNCTION_AIM = 60, 30
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"}
JSON_SCHEMA = {"jsonschema", "jsonschema_rs", "referencing"}
# A migration is history: it is written once, in one piece, and not improved afterwards.
HISTORY = "store/migrations/versions/"

# Composed, so that this file does not contain what it looks for.
HOSTS = (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com"),
    ("deb.debian", "org"), ("security.debian", "org"), ("proxy.golang", "org"),
)  # fmt: skip
TOPS = ("work", "farm", "root", "tmp/v", "opt/wheels", "opt/pypi", "opt/pypi-more")
REGISTRIES = re.compile("|".join(rf"\b{re.escape(name)}\.{suffix}\b" for name, suffix in HOSTS))
MACHINE = re.compile(r"(?:^|[^a-zA-Z0-9_.])/(?:" + "|".join(TOPS) + ")/")


def product() -> list[Path]:
    return python(*rooms())


def everything() -> list[Path]:
    return python(*rooms(), *AROUND)


# --- the rooms ---


def test_every_list_of_rooms_names_the_directories_that_are_there() -> None:
    there = {path.parent.name for path in ROOT.glob("*/__init__.py")} - set(AROUND)
    tool: dict[str, Any] = project()["tool"]
    lists = {
        "hatch wheel packages": rooms(),
        "coverage source": tool["coverage"]["run"]["source"],
        "mypy files": [name for name in tool["mypy"]["files"] if name not in AROUND],
        "importlinter root_packages": tool["importlinter"]["root_packages"],
    }
    wrong = {name: sorted(there ^ set(listed)) for name, listed in lists.items() if there ^ set(listed)}
    assert not wrong, f"these lists in pyproject.toml differ from the directories: {wrong}"


def test_every_room_is_bound_by_the_import_contracts() -> None:
    contracts = {entry["id"]: entry for entry in project()["tool"]["importlinter"]["contracts"]}
    layered = set(re.findall(r"\w+", " ".join(contracts["rooms"]["layers"])))
    assert set(rooms()) <= layered
    assert set(contracts["json-schema"]["source_modules"]) == set(rooms()) - {"contracts"}
    assert set(contracts["sql"]["source_modules"]) == set(rooms()) - {"store"}


def _imported(path: Path) -> set[str]:
    """The top-level packages a file imports."""
    nodes = list(ast.walk(measure.tree(path)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in plain | named}


def test_only_the_schema_modules_of_contracts_import_json_schema_libraries() -> None:
    outside = [path for path in python("contracts") if not re.fullmatch(r"schema(_\w+)?", path.stem)]
    assert not [place(path) for path in outside if _imported(path) & JSON_SCHEMA]


def test_no_module_is_named_after_nothing() -> None:
    parts = [(path, part) for path in product() for part in path.relative_to(ROOT).with_suffix("").parts]
    assert not [place(path) for path, part in parts if part in FORBIDDEN_NAMES]


# --- sizes ---


def test_files_are_short(report: list[str]) -> None:
    measured = [(measure.lines(path), place(path)) for path in everything()]
    sizes = measure.sizes("files", measured)
    report.append(str(sizes))
    assert not [entry for entry in measured if entry[0] > FILE_CAP]
    assert sizes.middle <= FILE_AIM


def test_functions_are_short(report: list[str]) -> None:
    paths = [path for path in everything() if HISTORY not in path.as_posix()]
    measured = [(measure.length(node), place(path, node)) for path in paths for node in measure.functions(path)]
    sizes = measure.sizes("functions", measured)
    report.append(str(sizes))
    assert not [entry for entry in measured if entry[0] > FUNCTION_CAP]
    assert sizes.middle <= FUNCTION_AIM


# --- words ---


def _undocumented(path: Path) -> list[str]:
    module = measure.tree(path)
    if any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts):
        return []
    kinds = (ast.ClassDef, *measure.Function.__args__)
    public = [node for node in module.body if isinstance(node, kinds) and not node.name.startswith("_")]
    bare = [place(path, node) for node in public if not ast.get_docstring(node)]
    return bare if ast.get_docstring(module) else [place(path), *bare]


def test_everything_public_says_what_it_promises() -> None:
    paths = [path for path in product() if HISTORY not in path.as_posix()]
    assert not [entry for path in paths for entry in _undocumented(path)]


# --- ways out that we do not take ---


def test_types_are_never_imported_for_the_checker_only() -> None:
    name = "TYPE_" + "CHECKING"
    assert not [entry for path in product() for entry in measure.matches(re.compile(rf"\b{name}\b"), path)]


def _swallows(handler: ast.ExceptHandler) -> bool:
    """A bare except, or one that catches everything and does nothing."""
    if handler.type is None:
        return True
    broad = {"Exception", "BaseException"} & {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    idle = all(isinstance(step, ast.Pass | ast.Continue) or _is_literal(step) for step in handler.body)
    return bool(broad) and idle


def _is_literal(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)


def test_no_failure_is_swallowed() -> None:
    found = [
        place(path, node)
        for path in everything()
        for node in ast.walk(measure.tree(path))
        if isinstance(node, ast.ExceptHandler) and _swallows(node)
    ]
    assert not found


# --- nothing that is true on one machine only ---


def test_no_registry_host_name_is_committed() -> None:
    assert not [entry for path in measure.files() for entry in measure.matches(REGISTRIES, path)]


def test_no_path_of_one_machine_is_committed() -> None:
    assert not [entry for path in measure.files() for entry in measure.matches(MACHINE, path)]


def test_the_patterns_find_what_they_are_for() -> None:
    assert REGISTRIES.search("https://" + "files." + "pythonhosted" + ".org/x")
    assert MACHINE.search("cd /" + "work/main")
    assert MACHINE.search("/" + "tmp/v/probe")
    assert not MACHINE.search("/api/" + "work/1")
