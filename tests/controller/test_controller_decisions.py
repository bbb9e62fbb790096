"""Decisions as the controller makes, tells and records them: knobs at run time, autoscaling off, the log's replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from controller_http import Http, served_over_http
from controller_world import CHUNK, ToyGateway, World

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Options
from headrace.controller.refusal import Refusal
from headrace.controller.view import endpoint_info
from headrace.controller.view_status import status_info
from headrace.decisions.reader import read
from headrace.planner.replay import Replay, replay

PATH = "/api/headrace/v1/endpoints/a"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With a decision log."""
    world = World(tmp_path / "data")
    world.model()
    world.fleet.ready_at_once = True
    world.config = msgspec.structs.replace(world.config, record_decisions=str(tmp_path / "d.jsonl"))
    world.restart()
    return world


@pytest.fixture
async def http(world: World) -> AsyncIterator[Http]:
    async with served_over_http(world) as http:
        yield http


def decided_again(tmp_path: Path) -> Replay:
    came = replay(read(tmp_path / "d.jsonl"))
    assert came.difference is None
    return came


async def live(world: World, gateway: ToyGateway, name: str, chunks: float, seconds: int) -> None:
    """Load of so many chunks."""
    for _ in range(seconds):
        gateway.offer(world.get(name), work=chunks * CHUNK, in_flight=1)
        gateway.ack()
        gateway.report()
        await world.step(1)


def reasons(world: World, name: str) -> list[str]:
    return [event.message for event in world.controller.events.list(endpoint=name, kinds=["scaled"], limit=1000)]


# Recorded and replayed


async def test_a_replay_counts_as_changes_what_events_told(world: World, tmp_path: Path) -> None:
    world.model("other")
    world.create("a", 1, 4)
    world.create("z", 0, 2)
    await world.step()
    gateway = ToyGateway(world)
    await live(world, gateway, "a", 2.5, 30)
    world.update("a", 2, 3, model="other")
    await live(world, gateway, "a", 2.5, 30)
    await live(world, gateway, "a", 0, 300)
    came = decided_again(tmp_path)
    assert came.changes == len(world.controller.events.list(kinds=["scaled"], limit=1000)) >= 3
    assert (came.endpoints, len(came.entities)) == ({"a", "z"}, 3)


async def test_a_life_with_every_kind_of_change_replays_to_the_same_decisions(world: World, tmp_path: Path) -> None:
    world.create("a", 1, 4)
    world.create("z", 0, 2)
    await world.step()
    gateway = ToyGateway(world)
    await live(world, gateway, "a", 2.5, 30)
    world.controller.endpoints.set_options("a", Options(scaling=ScalingConfig(headroom=0.5, slow_window_s=200)))
    await live(world, gateway, "a", 1.2, 30)
    world.controller.endpoints.set_options("a", Options(autoscaling=False))
    await live(world, gateway, "z", 0.5, 10)
    world.controller.endpoints.set_options("a", Options())
    world.update("a", 2, 3)
    world.fleet.crash()
    await live(world, gateway, "a", 0.1, 60)
    world.controller.gateways.gone("g1", world.clock.now())
    await world.step(30)
    came = decided_again(tmp_path)
    assert (came.segments, len(came.entities)) == (1, 2)
    assert came.decisions > 2 * 130
    assert came.changes >= 4


async def test_a_controller_that_starts_anew_begins_a_segment_and_both_replay(world: World, tmp_path: Path) -> None:
    world.create("a", 1, 4)
    await world.step()
    await live(world, ToyGateway(world), "a", 2.5, 20)
    world.restart()
    await world.step()
    await live(world, ToyGateway(world), "a", 2.5, 20)
    came = decided_again(tmp_path)
    assert came.segments == 2
    assert came.decisions >= 40


async def test_a_log_that_cannot_be_written_is_a_problem_and_scaling_goes_on(world: World, tmp_path: Path) -> None:
    world.config = msgspec.structs.replace(world.config, record_decisions=str(tmp_path / "none" / "d.jsonl"))
    world.restart()
    world.create("a", 1, 4)
    await world.step()
    await live(world, ToyGateway(world), "a", 2.5, 20)
    assert len(world.phases("a")) == 3
    assert any("decisions are not recorded" in problem for problem in status_info(world.controller).problems)
    (tmp_path / "none").mkdir()
    await world.step(1)
    assert not any("recorded" in problem for problem in status_info(world.controller).problems)


# Autoscaling off


async def test_without_autoscaling_the_minimum_stands_under_any_load_and_the_reason_says_so(world: World) -> None:
    world.create("a", 2, 4, options=Options(autoscaling=False))
    await world.step()
    await live(world, ToyGateway(world), "a", 4.0, 30)
    assert world.phases("a") == ["ready", "ready"]
    (entity,) = endpoint_info(world.controller, world.get("a")).entities
    assert entity.scaling_reason == "2 chunks kept: autoscaling is off, so the count is the minimum of the range"
    assert entity.scaling_standing == "off"


async def test_switching_it_off_and_on_is_an_event_and_changes_the_count(world: World) -> None:
    world.create("a", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    await live(world, gateway, "a", 2.5, 30)
    assert len(world.phases("a")) == 3
    world.controller.endpoints.set_options("a", Options(autoscaling=False))
    await world.step(1)
    assert reasons(world, "a")[-1] == "3 -> 1 chunk: autoscaling is off, so the count is the minimum of the range"
    world.controller.endpoints.set_options("a", Options())
    await live(world, gateway, "a", 2.5, 2)
    assert reasons(world, "a")[-1].startswith("1 -> 3 chunks: ")
    told = [event.message for event in world.controller.events.list(kinds=["options_changed"])]
    assert told == [
        "options of a were changed: autoscaling on -> off",
        "options of a were changed: autoscaling off -> on",
    ]


def test_it_cannot_be_off_where_the_minimum_is_zero(world: World) -> None:
    with pytest.raises(Refusal, match="nothing could ever be served"):
        world.create("a", 0, 2, options=Options(autoscaling=False))
    world.create("b", 1, 2, options=Options(autoscaling=False))
    with pytest.raises(Refusal):
        world.update("b", 0, 2)
    world.create("c", 0, 1)
    with pytest.raises(Refusal):
        world.controller.endpoints.set_options("c", Options(autoscaling=False))


# Knobs at run time


async def test_what_is_named_changes_the_rest_stays_and_null_is_the_default_again(http: Http) -> None:
    http.world.create("a", 1, 2)
    status, told = await http.patch(PATH, {"autoscaling": "off", "scaling": {"headroom": 0.5, "down_window_s": 5}})
    assert status == 200, told
    assert told["headrace"]["autoscaling"] == "off"
    status, told = await http.patch(PATH, {"autoscaling": None, "scaling": {"down_window_s": None, "wait_target_s": 2}})
    assert status == 200
    assert told["headrace"]["autoscaling"] == "on"
    kept = {name: value for name, value in told["headrace"]["scaling"].items() if value is not None}
    assert kept == {"headroom": 0.5, "wait_target_s": 2.0}
    told = (await http.patch(PATH, {"scaling": None}))[1]
    assert told["headrace"]["scaling"]["headroom"] is None
    assert (await http.get(PATH))[1]["options"]["autoscaling"] == "on"


async def test_knobs_in_force_are_told_with_the_defaults_filled_in(http: Http) -> None:
    http.world.create("a", 1, 2)
    await http.patch(PATH, {"scaling": {"headroom": 0.5}})
    told = (await http.get(PATH))[1]["entities"][0]["knobs"]
    assert (told["headroom"], told["slow_window_s"], told["fast_window_s"]) == (0.5, 150.0, 10.0)


async def test_a_slow_window_that_is_shorter_than_the_fast_one_is_told_to_be_longer(http: Http) -> None:
    http.world.create("a", 1, 2)
    told = (await http.patch(PATH, {"scaling": {"fast_window_s": 40, "slow_window_s": 5}}))[1]
    (note,) = told["headrace"]["notes"]
    assert note.startswith("toy-1: scaling.slow_window_s is 5, and the slow window 40 s, as long as the fast one")
    told = (await http.patch(PATH, {"scaling": {"slow_window_s": 50}}))[1]
    assert told["headrace"]["notes"] == []


async def test_a_change_of_knobs_restarts_nothing_makes_no_version_and_holds_from_the_next_decision(http: Http) -> None:
    world = http.world
    world.create("a", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    await live(world, gateway, "a", 1.8, 30)
    before = {replica.id for replica in world.controller.roster.all()}
    assert (await http.patch(PATH, {"scaling": {"headroom": 0.5}}))[0] == 200
    await live(world, gateway, "a", 1.8, 1)
    assert world.get("a").current.version == 1
    assert before < {replica.id for replica in world.controller.roster.all()}
    assert reasons(world, "a")[-1].startswith("2 -> 3 chunks")
    (event,) = (await http.get("/api/headrace/v1/events?kind=options_changed"))[1]["events"]
    assert event["message"] == "options of a were changed: scaling.headroom default -> 0.5 (by key 'first admin key')"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"scaling": {"fast_window_s": -1}}, "headrace.scaling.fast_window_s", "fast_window_s is -1; expected 1 to"),
        ({"scaling": {"down_window_s": 1e9}}, "headrace.scaling.down_window_s", "expected 0 to 86400"),
        ({"scaling": {"wait_target_s": 0}}, "headrace.scaling.wait_target_s", "expected 0.1 to 3600"),
        ({"scaling": {"idle_to_zero_s": 0}}, "headrace.scaling.idle_to_zero_s", "expected 1 to"),
        ({"scaling": {"headroom": -0.1}}, "headrace.scaling.headroom", "expected 0 to 10"),
        ({"scaling": {"headroom": "much"}}, None, "headroom"),
        ({"scaling": {"headrom": 1}}, None, "headrom"),
        ({"autoscaling": "maybe"}, None, "autoscaling"),
        ({"overload": "spill"}, "headrace.overload", "nowhere to spill to"),
        ({"queue_deadline_s": 1000}, "headrace.queue_deadline_s", "expected 0 to 297"),
        ({"max_queue": 1.5}, None, "max_queue"),
        ({"min_chunks": 2}, None, "min_chunks"),
    ],
)
async def test_what_cannot_be_set_is_a_400_that_says_what_can(
    http: Http, body: Any, param: str | None, said: str
) -> None:
    http.world.create("a", 1, 2)
    before = http.world.get("a").options
    status, answer = await http.patch(PATH, body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer["message"]
    assert param is None or answer["param"] == param
    assert http.world.get("a").options == before


async def test_an_unknown_endpoint_is_a_404(http: Http) -> None:
    assert (await http.patch(PATH, {"autoscaling": "on"}))[0] == 404


# Told


async def test_events_are_served_by_kind_and_page_by_page(http: Http) -> None:
    world = http.world
    world.create("a", 1, 4)
    world.create("b", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    await live(world, gateway, "a", 3.5, 20)
    base = "/api/headrace/v1/events?kind=scaled&kind=replica_ready&endpoint=a"
    everything = (await http.get(base))[1]["events"]
    assert {event["kind"] for event in everything} == {"scaled", "replica_ready"}
    assert {event["endpoint"] for event in everything} == {"a"}
    newest = (await http.get(f"{base}&limit=2"))[1]["events"]
    earlier = (await http.get(f"{base}&limit=2&before={newest[0]['id']}"))[1]["events"]
    assert earlier + newest == everything[-4:]
    later = (await http.get(f"{base}&limit=1&after={earlier[0]['id']}&before={newest[1]['id']}"))[1]["events"]
    assert later == [everything[-3]]


async def test_until_when_fewer_chunks_are_held_back_is_told(world: World) -> None:
    world.create("a", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    assert endpoint_info(world.controller, world.get("a")).entities[0].scaling_standing == "frozen"
    await live(world, gateway, "a", 2.5, 20)
    assert endpoint_info(world.controller, world.get("a")).entities[0].scaling_standing == "steady"
    while (entity := endpoint_info(world.controller, world.get("a")).entities[0]).scaling_standing == "steady":
        await live(world, gateway, "a", 0.1, 1)
    assert entity.scaling_standing == "stabilising"
    assert entity.scaling_until_ms is not None
    ahead = entity.scaling_until_ms - world.clock.ms
    assert 0 < ahead <= 60_000
    await live(world, gateway, "a", 0.1, ahead // 1000 - 1)
    assert len(world.phases("a")) == 3


async def test_the_series_has_what_is_desired_ready_billed_and_offered_in_chunks(world: World) -> None:
    world.create("a", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    await live(world, gateway, "a", 2.5, 20)
    await world.controller._add_points()
    await live(world, gateway, "a", 2.5, 10)
    await world.controller._add_points()
    point = world.controller.series.points(world.get("a").id, 60)[-1]
    assert (point.wanted, point.ready, point.billed) == (3, 3, 3)
    assert point.offered_chunks == pytest.approx(2.5)
    assert point.capacity_tokens_s == 3 * CHUNK
