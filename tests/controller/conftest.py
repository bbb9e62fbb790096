"""The REST API of a controller that knows one model, ``toy``, whose replicas are ready at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controller_http import Http, served_over_http
from controller_world import World


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """On a machine of four places."""
    world = World(tmp_path / "data", places=4)
    world.model()
    world.fleet.ready_at_once = True
    async with served_over_http(world) as http:
        yield http
