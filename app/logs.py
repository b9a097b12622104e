"""Logs: structlog, JSON in production, with the run, node, attempt and correlation id at hand (F14).

A line below the level costs a method call that does nothing. What is bound to the context (``bound_contextvars``), and
what is under way (``contracts/log_context.py``), stands in every line of that task: run_id, node_id, capability_id,
attempt, status, correlation_id.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from contracts.log_context import merge_under_way

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for this process. ``form`` is ``json``, ``console`` or ``auto``; lines go to standard error."""
    out = stream or sys.stderr
    as_json = form == "json" or (form == "auto" and not out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        merge_under_way,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, *_last(as_json, out)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _libraries(level, as_json, out, shared)


def _last(as_json: bool, out: TextIO) -> list[Processor]:
    if as_json:
        return [structlog.processors.format_exc_info, _render_json]
    # Rich tracebacks show every local variable: of a run in memory that takes seconds, and everything waits for it.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]


def _render_json(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _libraries(level: str, as_json: bool, out: TextIO, shared: list[Processor]) -> None:
    """Send what libraries log through the same processors; only warnings of theirs unless debugging."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(as_json, out)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])
    for name in ("sse_starlette", "asyncio", "aiosqlite", "alembic", "uvicorn"):
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
