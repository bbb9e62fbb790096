"""Who gets the machine: minimums first, and only among models that share something."""

from __future__ import annotations

from pathlib import Path

from headrace.controller.allotment import Want, allot, fitting, rivals, taken, takers
from headrace.controller.fleets import Fleets
from headrace.engines.base import ModelSettings
from headrace.fleet.local import LocalFleet
from headrace.fleet.static import StaticFleet

REAL = ModelSettings(name="real", engine="llamacpp")
SIMULATED = ModelSettings(name="sim", engine="simulated")
ON_GPU = ModelSettings(name="gpu", engine="vllm", gpus=1, threads=2)


def fleets(cores: int, gpus: int = 0) -> Fleets:
    local = LocalFleet(Path("supervisor.sock"), b"", cores=range(cores), gpus=range(gpus))
    return Fleets(local, StaticFleet())


TWO_CORES = fleets(2)


def want(entity: str, model: ModelSettings, minimum: int, wanted: int, running: int, *, of: Fleets = TWO_CORES) -> Want:
    return Want(entity=entity, shares=of.shares(model), minimum=minimum, wanted=wanted, running=running)


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


def test_replicas_on_gpus_leave_the_cores_that_they_do_not_need_to_others() -> None:
    machine = fleets(16, gpus=1)
    wants = [want("gpu", ON_GPU, 1, 2, 1, of=machine), want("cpu", REAL, 0, 10, 0, of=machine)]
    assert allot(wants) == {"gpu": 1, "cpu": 10}
    assert rivals(wants, allot(wants)) == {"gpu": ()}, "no other has a GPU"
    wants = [want("gpu", ON_GPU, 1, 1, 1, of=machine), want("cpu", REAL, 0, 20, 0, of=machine)]
    assert allot(wants) == {"gpu": 1, "cpu": 14}
    assert rivals(wants, allot(wants)) == {"cpu": ("gpu",)}


def test_what_runs_gives_way_only_to_what_shares_something_with_it() -> None:
    machine = fleets(4, gpus=2)
    wants = [want("cpu", REAL, 0, 4, 4, of=machine), want("gpu", ON_GPU, 1, 1, 0, of=machine)]
    assert allot(wants) == {"cpu": 2, "gpu": 1}
    assert takers(wants, allot(wants)) == {"cpu": (wants[1],)}


def test_a_core_that_is_too_few_for_one_model_is_enough_for_another() -> None:
    machine = fleets(5)
    pair = ModelSettings(name="pair", engine="llamacpp", threads=2)
    wants = [want("pair", pair, 2, 2, 0, of=machine), want("one", REAL, 0, 2, 0, of=machine)]
    assert allot(wants) == {"pair": 2, "one": 1}


def test_a_machine_without_gpus_has_no_place_for_a_model_that_needs_one() -> None:
    assert fitting(TWO_CORES.shares(ON_GPU), taken([])) == 0
    assert allot([want("gpu", ON_GPU, 1, 1, 0), want("cpu", REAL, 0, 3, 0)]) == {"gpu": 0, "cpu": 2}


def test_as_many_fit_as_the_fleet_says_when_nothing_else_runs() -> None:
    machine = fleets(7, gpus=3)
    for model in (REAL, SIMULATED, ON_GPU, ModelSettings(name="three", engine="llamacpp", threads=3)):
        assert fitting(machine.shares(model), {}) == machine.capacity(model)
