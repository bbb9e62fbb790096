"""Servers for the tests of whole systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from system_server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with an empty data directory and no endpoint."""
    with Server(tmp_path / "data") as running:
        yield running
