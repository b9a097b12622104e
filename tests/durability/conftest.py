"""A world per test: a database of its own on each backend, a place for files."""

from pathlib import Path

import pytest

from tests.durability.service import World


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> World:
    """On SQLite, and on PostgreSQL."""
    return World(database_url, tmp_path)
