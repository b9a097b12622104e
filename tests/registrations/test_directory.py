"""The registry and what is registered, as one directory: pure, with a clock moved by hand (F15)."""

from typing import Any

from app.wiring import open_flex
from capabilities import capability, facet
from capabilities.directory import LiveDirectory, Registered
from capabilities.egress import EgressPolicy
from capabilities.openai_model import OpenAIModel
from capabilities.registry import Registry
from contracts.capability import CapabilityDirectory
from contracts.registration import read_registration
from tests.capabilities.calls import Call, bundle
from tests.capabilities.web import Answer, serving
from tests.registrations.running import declaration
from tests.spine.running import settings_for
from tests.store.making import NOW, Hands

TEXT = facet("text", {"type": "string"})


@capability("text.shout", version="2.0.0", produces=TEXT)
async def shout() -> str:
    """Shouts."""
    return "HEY"


def over(registry: Registry) -> tuple[LiveDirectory, Hands]:
    clock = Hands()
    return LiveDirectory(registry, EgressPolicy(), clock), clock


def row(name: str = "weather.look_up", version: str = "1.0.0", beat_at: int = NOW, **changes: Any) -> Registered:
    body = declaration("http://127.0.0.1:9/", capability_id=name, version=version, **changes)
    return Registered(name, version, read_registration(body).canonical(), beat_at)


def small() -> Registry:
    return Registry(facets=[TEXT], capabilities=[shout])


def test_without_registrations_it_is_the_registry() -> None:
    registry = small()
    made, _ = over(registry)
    directory: CapabilityDirectory = made
    assert directory.catalogue() is registry.catalogue()
    made.take([row()])
    made.take([])
    assert directory.catalogue() is registry.catalogue()
    assert directory.find("text.shout") is shout
    assert directory.find("weather.look_up") is None


def test_the_catalogue_is_one_object_until_something_changes() -> None:
    directory, clock = over(small())
    directory.take([row()])
    first = directory.catalogue()
    found = directory.find("weather.look_up", "1.0.0")
    directory.take([row(beat_at=NOW + 1_000)])
    directory.beaten({("weather.look_up", "1.0.0"): NOW + 2_000, ("gone", "1"): NOW})
    clock.ms = NOW + 61_999
    assert directory.catalogue() is first
    assert directory.find("weather.look_up", "1.0.0") is found
    clock.ms += 1
    assert directory.find("weather.look_up", "1.0.0") is None
    assert directory.find("weather.look_up") is None
    assert directory.catalogue() is not first
    assert directory.catalogue() is directory.catalogue()
    assert "weather.look_up" not in directory.catalogue().active


def test_a_built_in_id_may_have_further_versions() -> None:
    directory, clock = over(small())
    produces: dict[str, Any] = {
        "facets": [{"name": "text", "schema": {"type": "string"}}],
        "consumes": {},
        "produces": ["text"],
    }
    directory.take([row("text.shout", "10.0.0", **produces), row("text.shout", "1.0.0", **produces)])
    newest = directory.find("text.shout")
    assert newest is not None
    assert newest.spec.version == "10.0.0"
    clock.ms += 60_000
    assert directory.find("text.shout") is shout
    assert directory.find("text.shout", "2.0.0") is shout
    assert directory.find("text.shout", "3.0.0") is None
    catalogue = directory.catalogue()
    assert "text.shout" in catalogue.active
    assert set(catalogue.inactive_versions) == {("text.shout", "1.0.0"), ("text.shout", "10.0.0")}
    assert not catalogue.inactive_reasons


def test_what_contradicts_a_file_that_came_later_rests_and_stops_nothing() -> None:
    """F15: the service starts, and the list says why the registration is not used."""
    registry = small()
    registry.add([facet("town", {"type": "integer"})], [])
    directory, _ = over(registry)
    directory.take([row(), row("text.shout", "2.0.0"), row("fine", facets=[], consumes={}, produces=["text"])])
    catalogue = directory.catalogue()
    assert catalogue.active == {"text.shout", "fine"}
    assert "town" in catalogue.inactive_reasons["weather.look_up"]
    assert [spec.capability_id for spec in catalogue.capabilities] == ["text.shout", "fine", "weather.look_up"]
    assert {each.name: each.schema for each in catalogue.facets}["town"] == {"type": "integer"}
    assert directory.find("text.shout", "2.0.0") is shout
    assert directory.find("weather.look_up", "1.0.0") is None


def test_a_declaration_that_cannot_be_read_any_more_is_left_out() -> None:
    directory, _ = over(small())
    directory.take([Registered("old", "1", '{"capability_id": "old"}', NOW), row()])
    assert directory.catalogue().active == {"text.shout", "weather.look_up"}


def test_the_registry_says_for_each_version_whether_it_is_active() -> None:
    """A newer version that lacks its model does not hide an older one."""

    @capability("text.shout", version="3.0.0", produces=TEXT, requires=("model",))
    async def louder() -> str:
        return "HEY!"

    catalogue = Registry(facets=[TEXT], capabilities=[shout, louder]).catalogue()
    assert set(catalogue.inactive_versions) == {("text.shout", "3.0.0")}
    assert not catalogue.inactive_reasons


# --- what the wiring opens, it closes ---


async def test_the_models_connections_are_closed_with_the_process(sqlite_url: str) -> None:
    """F16: the model's client belongs to the process."""
    reply = b'{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}],"usage":{}}'
    answer = Answer(headers={"content-type": "application/json"}, pieces=(reply,))
    async with serving(lambda _: answer) as server:
        async with open_flex(settings_for(sqlite_url, model_base_url=server.url, model="m")) as flex:
            found = flex.registry.find("llm.generate")
            assert found is not None
            await found.run(bundle(contract={"type": "string"}), Call())
            model = found._model  # type: ignore[attr-defined]  # there is no other way to see its connections
            assert model._client is not None
        assert model._client is None
    assert isinstance(model, OpenAIModel)
