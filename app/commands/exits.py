"""How a command ends: exit codes, and errors as sentences (docs/cli.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

OK: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
WAITING: Final = 3
CANCELLED: Final = 4
INTERRUPTED: Final = 130

OF_FRAME: Final[Mapping[str, int]] = {"complete": OK, "failed": FAILED, "cancelled": CANCELLED}
OF_STATUS: Final[Mapping[str, int]] = {"completed": OK, "failed": FAILED, "cancelled": CANCELLED}


class CommandError(Exception):
    """What a command could not do, as sentences for people; ``problem`` is the problem document when there is one."""

    def __init__(self, message: str, *, exit_code: int = REFUSED, problem: Mapping[str, Any] | None = None) -> None:
        """Keep the three."""
        self.message, self.exit_code, self.problem = message, exit_code, problem
        super().__init__(message)


def refused(problem: Mapping[str, Any]) -> CommandError:
    """Return the error for a problem document (RFC 9457): 4xx is 2, anything else 1."""
    status = problem.get("status")
    code = REFUSED if isinstance(status, int) and 400 <= status < 500 else FAILED
    return CommandError(_sentences(problem), exit_code=code, problem=problem)


def _sentences(problem: Mapping[str, Any]) -> str:
    said = problem.get("detail") or problem.get("title") or "The request was refused."
    lines = [f"{said} ({problem.get('code', 'error')})"]
    for item in problem.get("errors") or ():
        at = item.get("pointer") or "the whole"
        lines.append(f"  {at}: {item.get('message', '')}")
    if problem.get("decided_by"):
        lines.append(f"  {problem['decided_by']} decided at {problem.get('decided_at')}.")
    if problem.get("open_prompts"):
        lines.append(f"  Open prompts: {', '.join(_prompt_ids(problem['open_prompts']))}")
    return "\n".join(lines)


def _prompt_ids(prompts: Any) -> list[str]:
    return [str(item.get("prompt_id")) if isinstance(item, Mapping) else str(item) for item in prompts]
