"""What a refusal is made of: a status, a code, a sentence, findings with pointers (RFC 9457; P3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class ErrorItem:
    """One finding inside an error: a JSON pointer (RFC 6901) into the input, a stable code, a sentence."""

    pointer: str
    code: str
    message: str

    def as_wire(self) -> dict[str, str]:
        """Return the item as it stands in a problem document."""
        return {"pointer": self.pointer, "code": self.code, "message": self.message}


class FlexError(Exception):
    """The request could not be served."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "Request refused"

    def __init__(self, message: str = "", *, errors: Sequence[ErrorItem] = (), **extra: Any) -> None:
        """Keep a sentence for people, the findings, and members to add to the problem document."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.errors = tuple(errors)
        self.extra = extra
        super().__init__(self.message)

    def as_problem(self, correlation_id: str | None) -> dict[str, Any]:
        """Return the problem document (wire §1)."""
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.message,
            "correlation_id": correlation_id,
            "errors": [item.as_wire() for item in self.errors],
            **self.extra,
        }
