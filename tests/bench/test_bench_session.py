"""A load run from its first request to its figures, on a simulated server whose timing is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from misbehaving import client_spec

from headrace.bench import slo as objectives
from headrace.bench.client.records import Outcome
from headrace.bench.client.spec import ClientSpec
from headrace.bench.look import Look
from headrace.bench.session import Measured, Session
from headrace.bench.workload.spec import (
    Amount,
    Arrivals,
    ClosedLoop,
    Constant,
    Content,
    Poisson,
    Synthetic,
    Uniform,
)
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import OwnReplica, start_replica
from headrace.policy.work import RAW_TOKENS

ITERATION_S = 0.02
INPUT, OUTPUT = 20, 4
SLO = objectives.parse("ttft_p90=10s")


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[OwnReplica]:
    """One slot; a request takes OUTPUT iterations of a fixed length, whatever its prompt."""
    iteration = {"base_s": ITERATION_S, "prefill_s": 0.0, "decode_s": 0.0, "context_s": 0.0, "prefill_budget": 512}
    model = ModelSettings(name="sim", engine="simulated", slots=1, engine_args={"iteration": iteration})
    own = await start_replica(model, log=tmp_path / "replica.log")
    yield own
    await own.stop()


def spec(replica: OwnReplica, arrivals: Arrivals, amount: Amount) -> ClientSpec:
    made = client_spec(
        replica.url, key=replica.secret, arrivals=arrivals, amount=amount, content=Content(), timeout_s=60.0
    )
    source = Synthetic(input=Uniform(INPUT, INPUT), output=Uniform(OUTPUT, OUTPUT))
    return msgspec.structs.replace(made, load=msgspec.structs.replace(made.load, model="sim", source=source))


async def measured(
    session: Session, folder: Path, stop: asyncio.Event | None = None, looks: list[Look] | None = None
) -> Measured:
    folder = folder / "run"
    folder.mkdir()
    on_look = None if looks is None else looks.append
    async with asyncio.timeout(60):
        return await session.measure(folder, stop or asyncio.Event(), on_look)


@pytest.mark.parametrize("arrivals", [ClosedLoop(users=2), Constant(30.0)])
async def test_every_token_is_counted_in_either_loop(arrivals: Arrivals, replica: OwnReplica, tmp_path: Path) -> None:
    session = Session(spec(replica, arrivals, Amount(requests=20)), SLO, RAW_TOKENS, calibration_s=0)
    found = await measured(session, tmp_path)
    requests, whole = found.records.requests, found.summary.whole
    assert not found.interrupted
    assert set(requests["outcome"]) == {Outcome.OK} and len(requests) == 20
    assert requests["input_tokens"].sum() == 20 * INPUT and requests["output_tokens"].sum() == 20 * OUTPUT
    assert whole.work == INPUT + OUTPUT
    assert whole.latencies.tpot is not None
    assert whole.latencies.tpot.at(0.5) == pytest.approx(ITERATION_S, rel=0.3)


async def test_an_open_loop_counts_the_wait_of_a_full_server_from_when_requests_were_due(
    replica: OwnReplica, tmp_path: Path
) -> None:
    """Ten requests at almost the same time and one slot: the last waits for nine, whoever made it wait."""
    found = await measured(Session(spec(replica, Constant(1000.0), Amount(requests=10)), calibration_s=0), tmp_path)
    requests = found.records.requests
    waits = requests["first_s"] - requests["scheduled_s"]
    assert waits.max() == pytest.approx((9 * OUTPUT + 1) * ITERATION_S, rel=0.25)
    assert (requests["sent_s"] - requests["scheduled_s"]).max() < OUTPUT * ITERATION_S


async def test_the_client_itself_is_measured_before_and_after_on_the_same_load(
    replica: OwnReplica, tmp_path: Path
) -> None:
    session = Session(spec(replica, Poisson(10.0), Amount(requests=10)), SLO, calibration_s=0.3)
    found = await measured(session, tmp_path)
    before_s, after_s = found.summary.null_ttft_p99_s
    assert before_s is not None and after_s is not None
    assert 0 < before_s < ITERATION_S * OUTPUT and 0 < after_s < ITERATION_S * OUTPUT


async def test_a_look_tells_how_the_run_stands(replica: OwnReplica, tmp_path: Path) -> None:
    looks: list[Look] = []
    session = Session(spec(replica, ClosedLoop(users=3), Amount(duration_s=1.6)), SLO, RAW_TOKENS, calibration_s=0)
    await measured(session, tmp_path, looks=looks)
    last = looks[-1]
    assert len(looks) >= 3 and last.elapsed_s > looks[0].elapsed_s
    assert (last.in_flight, last.rejected, last.failed) == (3, 0, 0)
    assert last.ok > 0 and last.ended == last.ok and last.attainment == 1.0
    assert last.tokens_per_s == pytest.approx(last.ok * (INPUT + OUTPUT) / last.elapsed_s, rel=0.01)
    assert last.ttft_p50_s is not None and last.ttft_p50_s >= ITERATION_S


async def test_requests_in_flight_of_an_open_loop_are_those_that_were_due_and_have_not_ended(
    replica: OwnReplica, tmp_path: Path
) -> None:
    looks: list[Look] = []
    session = Session(spec(replica, Constant(1000.0), Amount(requests=30)), calibration_s=0)
    await measured(session, tmp_path, looks=looks)
    assert all(look.in_flight == 30 - look.ended for look in looks) and looks[0].in_flight > 0


async def test_a_stop_keeps_what_was_measured(replica: OwnReplica, tmp_path: Path) -> None:
    stop = asyncio.Event()
    session = Session(spec(replica, ClosedLoop(users=2), Amount(duration_s=600.0)), SLO, calibration_s=0)

    def when_something_was_answered(look: Look) -> None:
        if look.ok >= 3:
            stop.set()

    folder = tmp_path / "run"
    folder.mkdir()
    async with asyncio.timeout(60):
        found = await session.measure(folder, stop, when_something_was_answered)
    outcomes = found.records.requests["outcome"].tolist()
    assert found.interrupted and outcomes.count(Outcome.OK) >= 3
    assert outcomes.count(Outcome.UNFINISHED) == 2  # one of each user
    assert found.summary.null_ttft_p99_s == (None, None)


async def test_nothing_runs_on_when_the_measuring_itself_is_cut_off(replica: OwnReplica, tmp_path: Path) -> None:
    session = Session(spec(replica, ClosedLoop(users=2), Amount(duration_s=600.0)), calibration_s=0)
    looked = asyncio.Event()
    measuring = asyncio.create_task(session.measure(tmp_path, asyncio.Event(), lambda look: looked.set()))
    async with asyncio.timeout(60):
        await looked.wait()
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
    assert len(asyncio.all_tasks()) == 1
