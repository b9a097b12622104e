"""One directory of what can be done, from three sources, that refuses contradictions (F4, F15)."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from capabilities import CapabilityError, DeclarationError, capability, facet
from capabilities.loading import CapabilityFileError
from capabilities.openai_model import ModelSettings, OpenAIModel
from capabilities.registry import Registry, RegistryConflict, newness
from capabilities.world import World
from contracts.capability import Capability, CapabilityDirectory
from tests.capabilities.calls import Call, bundle, run

TEXT = facet("text", {"type": "string"})


def _named(name: str, version: str = "1.0.0", requires: tuple[str, ...] = ()) -> Capability:
    @capability(name, version=version, produces="text", requires=requires)
    async def body() -> str:
        return version

    return body


def _with(*capabilities: Capability) -> Registry:
    return Registry(facets=[TEXT], capabilities=capabilities)


def _write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(dedent(text))
    return path


# --- the catalogue ---


def test_the_catalogue_is_one_object_until_something_is_added() -> None:
    registry = Registry()
    directory: CapabilityDirectory = registry
    first = directory.catalogue()
    assert directory.catalogue() is first
    registry.add([TEXT], [_named("mine")])
    second = directory.catalogue()
    assert second is not first
    assert "mine" in second.active
    assert "mine" not in first.active


def test_what_needs_a_model_is_inactive_with_a_remedy_until_there_is_one() -> None:
    catalogue = Registry().catalogue()
    needy = {spec.capability_id for spec in catalogue.capabilities if "model" in spec.requires}
    assert needy == {"llm.generate", "copy.llm"}
    assert not needy & catalogue.active
    assert set(catalogue.inactive_reasons) == needy
    assert all("FLEX_MODEL_BASE_URL" in why and "FLEX_MODEL " in why for why in catalogue.inactive_reasons.values())
    assert Registry().find("llm.generate") is None

    model = OpenAIModel(ModelSettings("http://127.0.0.1:1/v1", "m"))
    there = Registry(World(model=model, model_price_in=1.0, model_price_out=2.0))
    assert needy <= there.catalogue().active
    assert not there.catalogue().inactive_reasons
    found = there.find("llm.generate")
    assert found is not None
    assert found.spec.cost == pytest.approx(1.5 + 1.4)


def test_people_are_always_there_and_unknown_requirements_never() -> None:
    registry = _with(_named("a", requires=("people",)), _named("b", requires=("printer",)))
    assert registry.catalogue().active == {"a"}
    assert "printer" in registry.catalogue().inactive_reasons["b"]


def test_versions_are_found_exactly_and_the_newest_without_one() -> None:
    registry = _with(_named("a", "1.9.0"), _named("a", "1.10.0"), _named("a", "2.0.0", requires=("printer",)))
    assert registry.find("a", "1.9.0") is not None
    newest = registry.find("a")
    assert newest is not None
    assert newest.spec.version == "1.10.0"
    assert registry.find("a", "2.0.0") is None
    assert registry.find("a", "3.0.0") is None
    assert registry.find("b") is None
    assert "a" in registry.catalogue().active
    assert "a" not in registry.catalogue().inactive_reasons


def test_versions_sort_as_numbers() -> None:
    versions = ["1.0.0-rc", "1.2.0", "1.10.0", "2.0.0"]
    assert sorted(["2.0.0", "1.10.0", "1.0.0-rc", "1.2.0"], key=newness) == versions


# --- contradictions ---


def test_one_facet_with_two_schemas_stops_the_start_and_names_both_places() -> None:
    other = facet("text", {"type": "integer"})
    with pytest.raises(RegistryConflict) as refused:
        Registry(facets=[TEXT, other], capabilities=[])
    message = str(refused.value)
    assert "text" in message
    assert message.count(f"{__file__}:") == 2


def test_the_same_facet_again_only_adds_its_aliases() -> None:
    registry = Registry(facets=[TEXT, facet("text", {"type": "string"}, aliases=("words",))], capabilities=[])
    (only,) = registry.catalogue().facets
    assert only.aliases == ("words",)


def test_one_capability_twice_stops_the_start_and_names_both_places() -> None:
    with pytest.raises(RegistryConflict) as refused:
        _with(_named("a"), _named("a"))
    assert "a 1.0.0" in str(refused.value)
    assert str(refused.value).count(f"{__file__}:") == 2


def test_a_facet_that_nobody_declares() -> None:
    @capability("a", produces="nowhere")
    async def body() -> None: ...

    with pytest.raises(DeclarationError, match=r"test_registry\.py:\d+: a names the facet nowhere"):
        _with(body)
    with pytest.raises(DeclarationError, match="list of nowhere"):
        Registry(facets=[facet("many", {"type": "array"}, list_of="nowhere")], capabilities=[])


def test_nothing_is_added_when_a_part_is_refused() -> None:
    registry = _with(_named("a"))
    before = registry.catalogue()
    with pytest.raises(RegistryConflict):
        registry.add([facet("new", True)], [_named("b"), _named("a")])
    assert registry.catalogue() is before


# --- files ---


async def test_a_file_adds_facets_functions_and_classes(tmp_path: Path) -> None:
    """F15: `flex serve --capabilities FILE.py`; an unseen domain is one file."""
    path = _write(
        tmp_path,
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from capabilities import Bundle, CapabilityBase, CapabilitySpec, capability, facet

        ORE = facet("ore", {"type": "string"})
        INGOT = facet("ingot", {"type": "object", "required": ["metal"], "properties": {"metal": {"type": "string"}}})

        @dataclass
        class Furnace:
            heat: int

        @capability("ore.smelt", consumes={"ore": ORE}, produces=INGOT)
        def smelt(ore):
            return {"metal": ore.upper()}

        smelt_again = smelt

        class Weigh(CapabilityBase):
            spec = CapabilitySpec("ingot.weigh", produces=("ore",))

            async def run(self, bundle: Bundle, context):
                return "heavy"
        """,
    )
    registry = Registry()
    registry.load_file(path)
    assert await run(registry, "ore.smelt", {"ore": "tin"}) == {"metal": "TIN"}
    assert await run(registry, "ingot.weigh") == "heavy"
    assert {"ore", "ingot"} <= {each.name for each in registry.catalogue().facets}
    with pytest.raises(RegistryConflict, match=r"ore\.smelt"):
        registry.load_file(path)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\ndef (:\n", 2, "not Python"),
        ("x = 1\n\nraise KeyError('lost')\n", 3, "KeyError"),
        ("import capabilities\n\ncapabilities.facet('two words', {})\n", 3, "facet name"),
        ("from capabilities import capability\n\n@capability('a')\ndef f(x): ...\n", 3, "nothing is called x"),
        ("x = 1\n", None, "declares no facet"),
        ("import nowhere_at_all\n", 1, "nowhere_at_all"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, line: int | None, says: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    before = set(sys.modules)
    with pytest.raises(CapabilityFileError) as refused:
        Registry().load_file(path)
    assert refused.value.path == str(path)
    assert refused.value.line == line
    assert says in refused.value.message
    assert str(path) in str(refused.value)
    if line is not None:
        assert set(sys.modules) == before


def test_a_file_that_is_not_there_or_is_no_python(tmp_path: Path) -> None:
    with pytest.raises(CapabilityFileError, match="no such file"):
        Registry().load_file(tmp_path / "absent.py")
    with pytest.raises(CapabilityFileError, match=r"end in \.py"):
        Registry().load_file(_write(tmp_path, "x = 1", "mine.txt"))


# --- plug-ins ---


def _distribution(folder: Path, name: str, value: str, module: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[flex.capabilities.test]\n{name} = {value}\n")
    _write(folder, module, f"{name}.py")


async def test_an_installed_plug_in_needs_no_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = """
        from capabilities import capability, facet
        FUR = facet("fur", {"type": "string"})
        @capability("fur.comb", produces=FUR)
        async def comb(): return "smooth"
        ALL = [FUR, comb]
        """
    _distribution(tmp_path, "plug_whole", "plug_whole", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    registry.load_entry_points("flex.capabilities.test")
    assert await run(registry, "fur.comb") == "smooth"


@pytest.mark.parametrize(("value", "says"), [("plug_bad:missing", "AttributeError"), ("plug_bad:EMPTY", "declares no")])
def test_a_broken_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    _distribution(tmp_path, "plug_bad", value, "EMPTY = []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CapabilityFileError, match=says) as refused:
        Registry().load_entry_points("flex.capabilities.test")
    assert value in str(refused.value)


# --- cost ---


def test_the_registry_starts_without_the_libraries_it_may_never_need() -> None:
    code = "import sys, capabilities.registry as r; r.Registry().catalogue(); print(*sys.modules)"
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(said.stdout.split())
    assert "capabilities.openai_model" not in loaded
    assert not loaded & {"httpx2", "httpcore2", "pocketflow"}


async def test_a_capability_that_is_not_active_still_refuses_in_person() -> None:
    from capabilities.llm_generate import LlmGenerate

    with pytest.raises(CapabilityError, match="model_missing"):
        await LlmGenerate(World()).run(bundle(), Call())
