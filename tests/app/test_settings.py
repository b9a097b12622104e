"""Settings: safe without any, refused in sentences, and never misspelt unnoticed (P2)."""

import io
import json
import runpy
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from app.logs import configure
from app.settings import InsecureBind, Settings, is_loopback, unknown_names

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FLEX_{name.upper()}", raising=False)


def test_without_any_the_service_is_local() -> None:
    """P1, P2: one process, SQLite, loopback."""
    settings = Settings()
    settings.check_bind()
    assert settings.database_url.startswith("sqlite+aiosqlite:///")
    assert is_loopback(settings.host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "flex.example"])  # noqa: S104 - it is refused
def test_other_machines_only_when_said_twice(host: str) -> None:
    """P2: an address others can reach needs a second word, because callers are not authenticated."""
    with pytest.raises(InsecureBind, match="FLEX_INSECURE_BIND"):
        Settings(host=host).check_bind()
    Settings(host=host, insecure_bind=True).check_bind()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_names(host: str) -> None:
    """P2: these only this machine can reach."""
    assert is_loopback(host)


def test_lists_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: lists are comma-separated; the listening name is a known host, a wildcard address is not."""
    monkeypatch.setenv("FLEX_CORS_ORIGINS", "https://a.example, http://b.example:8080")
    monkeypatch.setenv("FLEX_HOSTS", "Flex.example")
    settings = Settings(host="0.0.0.0")  # noqa: S104 - never bound here
    assert settings.cors_origins == ("https://a.example", "http://b.example:8080")
    assert settings.known_hosts == {"flex.example"}
    assert Settings(host="10.0.0.7").known_hosts == {"flex.example", "10.0.0.7"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLEX_CORS_ORIGINS", "*"),
        ("FLEX_CORS_ORIGINS", "https://a.example/path"),
        ("FLEX_DATABASE_URL", "mysql://x"),
        ("FLEX_PORT", "99999"),
        ("FLEX_LEASE_SECONDS", "0"),
        ("FLEX_CAPABILITIES", "nowhere.py"),
        ("FLEX_SYNCHRONOUS", "OFF"),
        ("FLEX_PLANNER_STRATEGY", "guess"),
        ("FLEX_PLANNER_STRATEGY", "model"),
    ],
)
def test_bad_values(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """House rules: no silent default: a value that cannot be used stops the start."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_model_that_plans_is_a_model_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: the strategy ``model`` without a model would refuse every run, so the start says it."""
    with pytest.raises(ValidationError, match="FLEX_MODEL"):
        Settings(planner_strategy="model")
    monkeypatch.setenv("FLEX_PLANNER_STRATEGY", "model")
    assert Settings(model="m", model_base_url="http://127.0.0.1:1/v1").planner_strategy == "model"


def test_misspelt_names_are_found() -> None:
    """House rules: a variable that sets nothing is named, with what it was probably meant to be."""
    environment = {"FLEX_LEASE_SECOND": "3", "FLEX_ZZZ": "", "FLEX_PORT": "1", "flex_host": "x", "PATH": ""}
    assert unknown_names(environment) == {"FLEX_LEASE_SECOND": "FLEX_LEASE_SECONDS", "FLEX_ZZZ": None}


def test_every_setting_is_described() -> None:
    """The reference in the docs is made from the descriptions."""
    assert all(part.description for part in Settings.model_fields.values())


def test_logs_are_json_with_the_context() -> None:
    """F14: one JSON object a line, with what is bound; below the level nothing is written."""
    before = structlog.get_config()
    out = io.StringIO()
    try:
        configure("info", "json", out)
        log = structlog.get_logger("x")
        with structlog.contextvars.bound_contextvars(run_id="run_1", node_id="n", attempt=2, correlation_id="cid"):
            log.info("node_ended", status="completed")
            log.debug("too_much")
        try:
            raise ValueError("a bug")
        except ValueError:
            log.exception("failed")
    finally:
        structlog.configure(**before)
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert {
        "run_id": "run_1",
        "node_id": "n",
        "attempt": 2,
        "correlation_id": "cid",
        "status": "completed",
    }.items() <= first.items()
    assert (first["level"], first["event"]) == ("info", "node_ended")
    assert "ValueError: a bug" in second["exception"]
    assert "run_id" not in second


def test_generated_pages_are_current() -> None:
    """W8: pages made from the code say what the code says (`make docs` writes them)."""
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert generate["stale"]() == []
