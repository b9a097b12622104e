"""Carrying values past the key of a cache whose key is already in the other arguments."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Hashed(Generic[T]):
    """A value that a hash beside it in the key stands for: any two are equal to the cache."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        """Carry ``value``."""
        self.value = value

    def __eq__(self, other: object) -> bool:
        """Leave the comparison to the rest of the key."""
        return isinstance(other, Hashed)

    def __hash__(self) -> int:
        """Leave the hash to the rest of the key."""
        return 0


class Held(Generic[T]):
    """A value that is the same only as the very object: kept alive by the key, compared by identity."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        """Carry ``value``."""
        self.value = value

    def __eq__(self, other: object) -> bool:
        """Say whether both carry the same object."""
        return isinstance(other, Held) and other.value is self.value

    def __hash__(self) -> int:
        """Hash the identity."""
        return id(self.value)
