"""Everything that can be set, from the environment with the prefix ``FLEX_``. The docs are made from it.

Nothing has to be set: the defaults are one process on a SQLite file, reachable from this machine only.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX: Final = "FLEX_"
FOR_TESTS: Final = frozenset({"FLEX_CRASH_AT"})
"""Read by the wiring: where a test wants the process to die."""
_List = Annotated[tuple[str, ...], NoDecode]
"""Written as a comma-separated list."""


class InsecureBind(ValueError):
    """The service would be reachable from other machines without knowing its callers."""


class ModelPrice(BaseModel):
    """What 1,000 tokens of a model cost, read and written, in the operator's currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_: float = Field(ge=0, allow_inf_nan=False, alias="in")
    out: float = Field(ge=0, allow_inf_nan=False)


class Settings(BaseSettings):
    """The settings of one process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Other than loopback needs `FLEX_INSECURE_BIND=1`."
    )
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    insecure_bind: bool = Field(
        default=False, description="Listen on an address other machines reach, although callers are not authenticated."
    )
    hosts: _List = Field(
        default=(), description="Further `Host` names the service answers to, besides loopback names and `FLEX_HOST`."
    )
    cors_origins: _List = Field(default=(), description="Origins (`https://…`) whose pages may call the service.")

    database_url: str = Field(
        default="sqlite+aiosqlite:///flex.db",
        description="`sqlite+aiosqlite:///PATH` or `postgresql+asyncpg://USER:PASSWORD@HOST/NAME`.",
    )
    synchronous: Literal["FULL", "NORMAL"] = Field(
        default="FULL",
        description="SQLite only: `FULL` survives a power cut, `NORMAL` may lose the last commits in one.",
    )
    database_pool: int = Field(default=10, ge=1, le=200, description="PostgreSQL only: connections of this process.")

    lease_seconds: float = Field(
        default=10.0, ge=0.2, le=3_600, description="A process silent for this long loses its runs to others."
    )
    max_active_runs: int = Field(
        default=1_000, ge=1, description="Runs this process executes at the same time; more stay queued."
    )
    max_backlog: int = Field(default=10_000, ge=1, description="Queued runs past which intake answers 503.")
    drain_seconds: float = Field(
        default=10.0, ge=0, le=3_600, description="How long a stopping process lets attempts and streams end."
    )

    body_bytes: int = Field(default=1024 * 1024, ge=1_024, description="Largest request body.")
    wait_seconds: int = Field(
        default=60, ge=0, le=3_600, description="Longest `Prefer: wait`, and how long `POST /run` waits."
    )
    document_bytes: int = Field(default=10 * 1024 * 1024, ge=1_024, description="Largest document of a story.")
    document_versions: int = Field(default=20, ge=1, le=1_000, description="Versions kept of each document.")
    document_characters: int = Field(
        default=300_000, ge=0, description="Characters of its documents' texts that a run is given, all together."
    )
    max_streams: int = Field(default=10_000, ge=1, description="Streams of this process at the same time; 503 beyond.")
    heartbeat_seconds: float = Field(
        default=15.0, gt=0, le=3_600, description="Seconds between the comments that keep a stream open."
    )
    slow_viewer_seconds: float = Field(
        default=20.0, gt=0, le=3_600, description="A viewer that blocks a write this long is let go."
    )
    viewer_frames: int = Field(
        default=1_024, ge=1, description="Frames held for one viewer before it is sent to the log."
    )
    viewer_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1_024, description="Bytes held for one viewer before it is sent to the log."
    )
    feed_tick_seconds: float = Field(
        default=1.0, gt=0, le=60, description="How often watched runs are looked up, for lost nudges."
    )

    max_plan_nodes: int = Field(default=100, ge=1, description="Nodes of a plan.")
    max_plan_edges: int = Field(default=200, ge=1, description="Edges of a plan.")
    max_plan_fan_out: int = Field(default=100, ge=1, description="Edges that leave one node of a plan.")
    max_plan_depth: int = Field(default=100, ge=1, description="Nodes on the longest path of a plan.")
    max_plan_seconds: float = Field(
        default=600.0, gt=0, description="Seconds that a plan is expected to take, waiting for people not counted."
    )
    max_plan_tokens: int | None = Field(default=None, ge=0, description="Tokens that a plan is expected to take.")
    max_plan_cost: float | None = Field(default=None, ge=0, description="What a plan is expected to cost.")
    capabilities: _List = Field(default=(), description="Python files whose capabilities are loaded at start.")
    agents_dir: str | None = Field(
        default=None, description="Folder of agents: Python and Markdown files, groups in `flows/`. Read at start."
    )
    agents_reload: bool = Field(
        default=False, description="Look at the agents folder every second and take over what changed: development."
    )
    egress_allow: _List = Field(default=(), description="Host names that capabilities may call; none without it.")

    memory_value_bytes: int = Field(
        default=64 * 1024, ge=1, le=1024 * 1024, description="Largest value that is remembered under a key, as JSON."
    )
    memory_keys: int = Field(default=1_000, ge=1, le=100_000, description="Keys of a scope of memory.")
    memory_read_bytes: int = Field(
        default=1024 * 1024,
        ge=1,
        le=16 * 1024 * 1024,
        description="How much of what is remembered a node is given, as JSON; the newest of it, if there is more.",
    )

    model_base_url: str | None = Field(
        default=None, description="Base URL of an OpenAI-compatible model service, up to `/v1`."
    )
    model: str | None = Field(default=None, description="Model to ask for; without it no model is used.")
    model_api_key: SecretStr | None = Field(default=None, description="Key of the model service.")
    model_price_in: float = Field(default=0.0, ge=0, description="Price of 1,000 tokens read, in your currency.")
    model_price_out: float = Field(default=0.0, ge=0, description="Price of 1,000 tokens written, in your currency.")
    model_prices: dict[str, ModelPrice] = Field(
        default_factory=dict,
        max_length=1_000,
        description='Prices of models by name, as JSON: `{"small": {"in": 0.1, "out": 0.2}}`, per 1,000 tokens. '
        "The two prices above are those of every other model.",
    )
    planner_strategy: Literal["search", "model"] = Field(
        default="search",
        description="Who plans when an envelope does not say: the search, or the model, which `FLEX_MODEL` configures.",
    )

    chat_tools: _List = Field(
        default=(), description="Capabilities that a chat may have called when it does not name its own."
    )
    chat_instructions: str = Field(
        default="", max_length=20_000, description="What the model of a chat is told first, likewise."
    )
    chat_rounds: int = Field(
        default=8, ge=1, le=64, description="How often the model of a chat may ask for tools before it has to answer."
    )
    chat_approve: Literal["none", "once", "all"] = Field(
        default="once",
        description="Which calls of a chat people are asked about first: `none`, those that must not be repeated "
        "(`once`), or `all`.",
    )

    public_url: str = Field(
        default="", description="Where people and callbacks reach this service, like `https://flex.example`."
    )
    notify: dict[str, list[SecretStr]] = Field(
        default_factory=dict,
        description='Whom to tell of prompts: JSON, `{"role:operator": ["mailto://…"], "user:ana": ["slack://…"]}`, '
        "addresses as Apprise takes them. Needs `FLEX_PUBLIC_URL`.",
    )
    link_hours: float = Field(default=72.0, gt=0, le=8_784, description="How long a review link is good for.")

    retention_days: int = Field(
        default=365,
        ge=0,
        le=36_500,
        description="Days after its end that a run is kept, where its tenant has no policy; 0 keeps runs for ever.",
    )
    audit_retention_days: int = Field(
        default=3_650,
        ge=0,
        le=36_500,
        description="Days that audit records and summaries of pruned runs are kept, likewise; 0 keeps them for ever.",
    )

    conversation_retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days after its last message that a conversation is kept, where its tenant has no policy; "
        "0 keeps conversations for ever.",
    )
    document_retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days after it was last put that a document is kept, likewise; 0 keeps documents for ever.",
    )
    memory_retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days after it was last written that an entry of memory is kept, likewise; 0 keeps them for ever.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: console on a terminal, else JSON."
    )

    crash_at: str | None = Field(
        default=None,
        description="Tests only: kill the process at a named point, `NAME` or `NAME:COUNT`. See reliability.",
    )
    ui_run_popup: bool = Field(
        default=True, description="The web page's «Create post» uses the flex endpoint; off: `POST /run`."
    )

    @field_validator("hosts", "cors_origins", "capabilities", "egress_allow", "chat_tools", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, mark, rest = origin.partition("://")
            if scheme not in ("http", "https") or not mark or not rest or "/" in rest or "*" in rest:
                raise ValueError(f"{origin}: an origin is a scheme and a host, like https://app.example")
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("a URL begins with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.notify and not self.public_url:
            raise ValueError("FLEX_NOTIFY needs FLEX_PUBLIC_URL: its links lead there")
        return self

    @model_validator(mode="after")
    def _planned(self) -> Self:
        if self.planner_strategy == "model" and (self.model is None or self.model_base_url is None):
            raise ValueError("FLEX_PLANNER_STRATEGY=model needs FLEX_MODEL and FLEX_MODEL_BASE_URL")
        return self

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        if not value.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise ValueError("use sqlite+aiosqlite:///PATH or postgresql+asyncpg://…")
        return value

    @field_validator("agents_dir")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_dir():
            raise ValueError(f"{value}: no such folder")
        return value

    @field_validator("capabilities")
    @classmethod
    def _files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not Path(name).is_file():
                raise ValueError(f"{name}: no such file")
        return value

    def check_bind(self) -> None:
        """Raise :class:`InsecureBind` for an address that other machines reach while nobody is authenticated (P2)."""
        if not is_loopback(self.host) and not self.insecure_bind:
            raise InsecureBind(
                f"{self.host} is reachable from other machines and callers are not authenticated: every caller "
                "would have every role. Listen on 127.0.0.1, or set FLEX_INSECURE_BIND=1 where something in front "
                "keeps strangers out."
            )

    @property
    def known_hosts(self) -> frozenset[str]:
        """Return the host names, besides loopback, that the service answers to."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host,)  # noqa: S104 - compared, not bound
        public = urlsplit(self.public_url).hostname or ""
        return frozenset(name.lower().strip("[]") for name in (*self.hosts, *own, public) if name)


def is_loopback(host: str) -> bool:
    """Say whether an address is only reachable from this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def unknown_names(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the ``FLEX_…`` variables that set nothing, each with the name it was probably meant to be."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | FOR_TESTS
    strangers = sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)), None) for name in strangers
    }
