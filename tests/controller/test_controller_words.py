"""What people read in events says one of one thing, and what a simulated figure is."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import World

from headrace.controller.words import profiled


@pytest.mark.parametrize(
    ("low", "high", "chunks"), [(1, 1, "1 chunk of"), (0, 1, "0 to 1 chunk of"), (2, 2, "2 chunks of")]
)
async def test_an_endpoint_is_told_of_with_its_range_and_its_engine(
    tmp_path: Path, low: int, high: int, chunks: str
) -> None:
    world = World(tmp_path / "data")
    world.model(status="quick")
    world.create("a", low, high)
    message = world.controller.events.list()[-1].message
    assert message == (
        f"endpoint a was created: {chunks} 1000 reference tokens/s of toy (quick profile, simulated engine)"
    )


def test_a_real_engine_needs_no_mention() -> None:
    assert profiled("quick", "llamacpp") == "quick profile"
