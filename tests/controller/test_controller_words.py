"""What people read in events says one of one thing, and what a simulated figure is."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import World, entity

from headrace.controller.words import counted, listed, profiled


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


async def test_an_endpoint_of_several_entities_is_told_of_with_each(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    world.model()
    world.create_several("a", (entity("big", 1, 2), 80), (entity("small", 0, 1), 20))
    terms = "1000 reference tokens/s of toy (measured profile, simulated engine)"
    assert world.controller.events.list()[-1].message == (
        f"endpoint a was created: big with 80%, 1 to 2 chunks of {terms}; small with 20%, 0 to 1 chunk of {terms}"
    )


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [(1, "served entity", "1 served entity"), (2, "served entity", "2 served entities"), (0, "chunk", "0 chunks")],
)
def test_one_thing_is_counted_as_one(count: int, noun: str, said: str) -> None:
    assert counted(count, noun) == said


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "none"), (1, "e0"), (20, ", ".join(f"e{place}" for place in range(20)))],
)
def test_few_names_are_all_told(count: int, told: str) -> None:
    assert listed([f"e{place}" for place in range(count)]) == told


def test_of_many_names_a_message_tells_the_first_and_how_many_more() -> None:
    told = listed([f"e{place}" for place in range(500)])
    assert told.endswith(", e18, e19 and 480 more")
