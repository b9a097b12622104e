"""What a caller says must hold for a request to be done: ``If-Match`` and ``If-None-Match`` (RFC 9110 §13)."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.errors import PreconditionFailed

ANY = "*"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Entity tags without their quotes, or ``*``; None: nothing was said."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def check(self, tag: str | None) -> None:
        """Raise ``PreconditionFailed`` unless they hold for a thing with this tag; None: there is no such thing."""
        if self.match is not None and not _among(self.match, tag):
            raise PreconditionFailed("There is another version of it, or none.", version_tag=tag)
        if self.none_match is not None and _among(self.none_match, tag):
            raise PreconditionFailed("It is there already.", version_tag=tag)

    def unchanged(self, tag: str) -> bool:
        """Say whether the caller has this very version already (304)."""
        return self.none_match is not None and _among(self.none_match, tag)


def _among(tags: frozenset[str], tag: str | None) -> bool:
    return tag is not None and (ANY in tags or tag in tags)
