from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fleet_server import Server

from headrace.paths import DataDir


@pytest.fixture
async def server(data_dir: DataDir) -> AsyncIterator[Server]:
    """A running supervisor with a toy gateway and a toy controller."""
    server = Server(data_dir)
    try:
        await server.start()
        yield server
    finally:
        await server.close()
