"""Prices per model: what a call costs is told by the model that answered it, in runs and in the usage door (W6)."""

from collections.abc import Iterator

import pytest

from app.settings import Settings
from tests.chat.talking import shapes, talk
from tests.model.scripted import Script, says
from tests.spine.running import serving


@pytest.fixture
def dear(script: Script) -> Iterator[Script]:
    """Another model of the same endpoint."""
    other = Script(script.base, f"{script.name}-dear")
    yield other
    other.close()


async def test_each_model_has_its_own_price(sqlite_url: str, script: Script, dear: Script) -> None:
    """W6: 80 tokens in and 20 out; the pair of prices is that of the configured model, which has no own one here."""
    script.will(says("Cheap."))
    dear.will(says("Dear."))
    named = {"temperature": 0.0}
    async with serving(sqlite_url, **script.settings, model_prices={dear.name: {"in": 10, "out": 20}}) as service:
        cheap = (await service.run(talk(sampling=named)))[-1].payload
        assert cheap["usage"] == {"tokens": 100, "cost": pytest.approx(0.08 + 0.04)}
        costly = (await service.run(talk(model=dear.name)))[-1].payload
        assert costly["usage"] == {"tokens": 100, "cost": pytest.approx(0.8 + 0.4)}
        total = (await service.client.get("/api/v1/usage", params={"by": "way"})).json()
        assert total["total"]["cost"] == pytest.approx(0.12 + 1.2)


async def test_the_model_that_answers_is_the_one_that_is_paid(sqlite_url: str, script: Script) -> None:
    """W6: an endpoint that answers as another model than the one asked for is charged as that one."""
    reply = says("Hello.")
    reply["response"]["model"] = "tiny-2026-01-05"
    script.will(reply)
    prices = {"tiny-2026-01-05": {"in": 100, "out": 100}, script.name: {"in": 0, "out": 0}}
    async with serving(sqlite_url, **script.settings, model_prices=prices) as service:
        end = (await service.run(talk()))[-1].payload
        assert end["usage"]["cost"] == pytest.approx(10.0)


async def test_a_model_without_a_price_is_not_asked(sqlite_url: str, script: Script) -> None:
    """R6: who writes a plan chooses among the models that the operator has priced, and no others."""
    async with serving(sqlite_url, **script.settings) as service:
        frames = await service.run(talk(model="huge"))
        assert shapes(frames)[:2] == ["node_start:chat", "node_error:chat"]
        assert next(frame.payload for frame in frames if frame.type == "node_error")["code"] == "model_unknown"
        assert script.bodies() == []


@pytest.mark.parametrize("text", ['{"m": {"in": 1}}', '{"m": {"in": -1, "out": 0}}', '{"m": 1}', "cheap"])
def test_a_table_that_is_none_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Prices are read when the service starts; a half one is a mistake."""
    monkeypatch.setenv("FLEX_MODEL_PRICES", text)
    with pytest.raises(ValueError, match=r"(?i)model_prices"):
        Settings()
