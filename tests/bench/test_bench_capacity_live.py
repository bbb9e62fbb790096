"""A capacity search on a live server: it ends with a verdict in its time, and what it found is not lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from misbehaving import always, client_spec, serving, whole

from headrace.bench import slo as objectives
from headrace.bench.capacity import live
from headrace.bench.capacity.evidence import Told
from headrace.bench.capacity.live import Found, LiveSearch, Look
from headrace.bench.capacity.search import Search
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.errors import BenchError
from headrace.bench.results import gates
from headrace.bench.workload.spec import ClosedLoop, Dataset, Gamma, LoadSpec
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import start_replica
from headrace.policy.work import RAW_TOKENS

SLOTS, OUTPUT, ITERATION_S = 4, 4, 0.01
SATURATED = SLOTS / (OUTPUT * ITERATION_S)
"""Requests/s at which every slot is always busy."""
SLO = objectives.parse("e2e_p80=300ms")
BUDGET_S = 25.0


@pytest.fixture(autouse=True)
def a_machine_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own lateness, which others on the machine cause, is no part of these tests."""
    monkeypatch.setattr(gates, "LAG_SHARE", 1000.0)
    monkeypatch.setattr(gates, "MIN_KS_P", 0.0)
    monkeypatch.setattr(live, "SETTLE_S", 0.0)


@pytest.fixture
async def spec(tmp_path: Path) -> AsyncIterator[ClientSpec]:
    """Of a server whose capacity is known."""
    iteration = {"base_s": ITERATION_S, "prefill_s": 0.0, "decode_s": 0.0, "context_s": 0.0, "prefill_budget": 512}
    model = ModelSettings(name="m", engine="simulated", slots=SLOTS, engine_args={"iteration": iteration})
    own = await start_replica(model, log=tmp_path / "replica.log")
    yield client_spec(own.url, key=own.secret)
    await own.stop()


def search(budget_s: float, most_rate: float = SATURATED / 2) -> Search:
    return Search(SLO.criteria, seed=1, budget_s=budget_s, width=0.3, most_rate=most_rate)


async def found(
    search: Search,
    spec: ClientSpec,
    on_look: Callable[[Look], None] | None = None,
    on_told: Callable[[Sequence[Told]], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Found:
    run = LiveSearch(search, spec, SLO, stop or asyncio.Event(), weights=RAW_TOKENS, on_look=on_look, on_told=on_told)
    async with asyncio.timeout(120):
        return await run.run()


async def test_a_search_below_a_bound_that_the_server_holds_passes_and_is_kept_probe_by_probe(
    spec: ClientSpec,
) -> None:
    kept: list[list[Told]] = []
    began = time.monotonic()
    first = await found(search(BUDGET_S), spec, on_told=lambda told: kept.append(list(told)))
    assert time.monotonic() - began < BUDGET_S + 30.0
    answer = first.answer
    assert answer is not None and answer.verdict == "PASS" and answer.limit == "bound"
    assert answer.confirmed == SATURATED / 2
    assert (answer.input_tokens, answer.output_tokens, answer.work) == (8.0, OUTPUT, 8.0 + OUTPUT)
    assert [len(told) for told in kept] == list(range(1, len(kept) + 1))

    again = search(BUDGET_S)
    again.retell(kept[-1])
    probed: list[Look] = []
    resumed = await found(again, spec, on_look=probed.append)
    assert resumed.answer == answer and not probed


async def test_a_search_without_a_bound_ends_in_its_time_and_confirms_nothing_that_cannot_be(spec: ClientSpec) -> None:
    began = time.monotonic()
    answer = (await found(search(BUDGET_S, most_rate=4 * SATURATED), spec)).answer
    assert time.monotonic() - began < BUDGET_S + 30.0
    assert answer is not None and answer.verdict in ("PASS", "UNRESOLVED")
    assert answer.confirmed is None or answer.confirmed < 1.1 * SATURATED
    assert any(point.verdict == "FAIL" for point in answer.curve)


async def test_an_interrupted_search_keeps_what_it_was_told_and_can_be_gone_on_with(spec: ClientSpec) -> None:
    stop, kept = asyncio.Event(), list[Told]()

    def interrupt(look: Look) -> None:
        if look.probe.phase != "floor":
            stop.set()

    def keep(told: Sequence[Told]) -> None:
        kept[:] = told

    broken_off = await found(search(60.0), spec, on_look=interrupt, on_told=keep, stop=stop)
    assert broken_off.answer is None and list(broken_off.told) == kept
    assert [probe.phase for probe, _ in kept] == ["floor"] * len(kept) and kept

    looks: list[Look] = []
    stop_again, again = asyncio.Event(), search(60.0)
    again.retell(kept)

    def look_once(look: Look) -> None:
        looks.append(look)
        stop_again.set()

    await found(again, spec, on_look=look_once, stop=stop_again)
    assert looks[0].probe.phase != "floor" and looks[0].spent_s > kept[0][1].elapsed_s


async def test_a_server_that_answers_nothing_ends_the_search_in_words() -> None:
    refusal = always(whole("401 Unauthorized", b'{"error":{"message":"no such key"}}'))
    async with serving(refusal) as url:
        with pytest.raises(BenchError, match=r"no request was answered, so there is no capacity .*401: no such key$"):
            await found(search(30.0), client_spec(url))


async def test_probes_are_of_new_requests_with_the_burstiness_that_was_asked_for(
    tmp_path: Path, spec: ClientSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dataset, each probe sends others than the first ones of the file, and none that a cache has seen."""
    file = tmp_path / "lengths.csv"
    file.write_text("input,output\n" + f"20,{OUTPUT}\n" * 8)
    loads: list[LoadSpec] = []
    stop = asyncio.Event()

    class Noted(Run):
        def __init__(self, spec: ClientSpec, directory: Path) -> None:
            super().__init__(spec, directory)
            loads.append(spec.load)
            if not isinstance(spec.load.arrivals, ClosedLoop):
                stop.set()

    monkeypatch.setattr(live, "Run", Noted)
    load = msgspec.structs.replace(spec.load, source=Dataset(path=str(file)))
    asked = msgspec.structs.replace(spec, load=load)
    async with asyncio.timeout(120):
        await LiveSearch(search(5.0), asked, SLO, stop, cv=3.0).run()
    last = loads[-1].arrivals
    assert isinstance(last, Gamma) and last.cv == 3.0
    assert len({load.content.salt for load in loads}) == len({load.seed for load in loads}) == len(loads) > 1
    assert all(isinstance(load.source, Dataset) and load.source.shuffle for load in loads)
