"""Who gets the machine: minimums first, and only among models that share something."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from headrace.controller.allotment import Want, allot, takers
from headrace.controller.fleets import Fleets, pool_of
from headrace.engines.base import ModelSettings
from headrace.fleet.local import LocalFleet
from headrace.fleet.static import StaticFleet

REAL = ModelSettings(name="real", engine="llamacpp")
SIMULATED = ModelSettings(name="sim", engine="simulated")


def want(entity: str, model: ModelSettings, minimum: int, wanted: int, running: int) -> Want:
    """On a machine of two cores."""
    fleets = Fleets(LocalFleet(Path("supervisor.sock"), b"", cores=range(2)), StaticFleet())
    return Want(
        entity=entity,
        pool=pool_of(model),
        share=Fraction(1, fleets.capacity(model)),
        minimum=minimum,
        wanted=wanted,
        running=running,
    )


def test_simulated_replicas_take_nothing_from_the_machine() -> None:
    wants = [want("first", REAL, 1, 1, 1), want("second", REAL, 0, 1, 1), want("sim", SIMULATED, 1, 4, 0)]
    assert allot(wants) == {"first": 1, "second": 1, "sim": 4}


def test_a_place_is_taken_by_a_minimum_or_by_nobody() -> None:
    wants = [want("loser", REAL, 0, 2, 2), want("taker", REAL, 1, 1, 0), want("greedy", REAL, 0, 1, 0)]
    assert takers(wants, allot(wants)) == {"loser": (wants[1],)}
    assert takers([want("alone", REAL, 1, 3, 3)], {"alone": 2}) == {"alone": ()}
    assert takers([want("quiet", REAL, 1, 1, 2)], {"quiet": 1}) == {}, "it gives up what it does not want"


def test_servers_that_are_not_ours_share_nothing_with_the_machine() -> None:
    server = ModelSettings(name="there", engine="openai", url="http://127.0.0.1:8000")
    wants = [want("first", REAL, 2, 2, 2), want("there", server, 1, 1, 0), want("too", server, 0, 1, 0)]
    assert allot(wants) == {"first": 2, "there": 1, "too": 0}
