"""Who may do what to a run or a prompt: one place, pure functions (P2, H9).

Every door asks these; none decides by itself. Reading a run's data stays open to its whole tenant. The tenant itself
is not looked at here: a use case only ever finds rows of its own tenant.
"""

from __future__ import annotations

from typing import Final

from contracts.access import Principal
from contracts.errors import Forbidden

_RUNNERS: Final = frozenset({"operator", "admin"})
_EDITORS: Final = _RUNNERS | {"builder"}
_BUILDERS: Final = frozenset({"builder", "admin"})


def may_control(principal: Principal, requester: str) -> bool:
    """Return whether a caller may cancel, pause, resume, retry, fork or trigger a run.

    ``requester`` is the subject the run was started by (``runs.principal``). True for that subject, an operator and
    an admin.
    """
    return principal.subject == requester or bool(principal.roles & _RUNNERS)


def may_edit_plan(principal: Principal, requester: str) -> bool:
    """Return whether a caller may change the plan of a running run: who may control it, and builders."""
    return principal.subject == requester or bool(principal.roles & _EDITORS)


def may_withdraw(principal: Principal, requester: str) -> bool:
    """Return whether a caller may take a question back: the run's requester or an admin."""
    return principal.subject == requester or "admin" in principal.roles


def may_audit(principal: Principal) -> bool:
    """Return whether a caller may read audit records: an admin or an operator."""
    return bool(principal.roles & _RUNNERS)


def check_build(principal: Principal) -> None:
    """Raise Forbidden (403) unless the caller is a builder or an admin: who may write what others run."""
    if not principal.roles & _BUILDERS:
        raise Forbidden("Only a builder or an admin may write flows and templates.")


def check_write_memory(principal: Principal) -> None:
    """Raise Forbidden (403) unless the caller is an operator, a builder or an admin: who may write what runs read."""
    if not principal.roles & _EDITORS:
        raise Forbidden("Only an operator, a builder or an admin may change what is remembered.")


def check_empty_memory(principal: Principal) -> None:
    """Raise Forbidden (403) unless the caller is an operator or an admin: who may forget a whole scope."""
    if not principal.roles & _RUNNERS:
        raise Forbidden("Only an operator or an admin may forget a whole scope.")


def check_control(principal: Principal, requester: str) -> None:
    """Raise Forbidden (403) unless :func:`may_control`."""
    if not may_control(principal, requester):
        raise Forbidden("Only who started the run, an operator or an admin may do this to it.")


def check_edit_plan(principal: Principal, requester: str) -> None:
    """Raise Forbidden (403) unless :func:`may_edit_plan`."""
    if not may_edit_plan(principal, requester):
        raise Forbidden("Only who started the run, a builder, an operator or an admin may change its plan.")


def check_withdraw(principal: Principal, requester: str) -> None:
    """Raise Forbidden (403) unless :func:`may_withdraw`."""
    if not may_withdraw(principal, requester):
        raise Forbidden("Only who started the run or an admin may take a question back.")


def check_audit(principal: Principal) -> None:
    """Raise Forbidden (403) unless :func:`may_audit`."""
    if not may_audit(principal):
        raise Forbidden("Only an operator or an admin may read audit records.")


def check_retention(principal: Principal) -> None:
    """Raise Forbidden (403) unless the caller is an admin: who may say how long things are kept."""
    if "admin" not in principal.roles:
        raise Forbidden("Only an admin may see or change how long things are kept.")
