"""A capacity search as it is carried out: it ends with a verdict in its time, and what it found is not lost.

The server and the clock are virtual, but for what is about real processes and connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from misbehaving import always, client_spec, serving, whole
from virtual_run import VirtualServer

from headrace.bench import slo as objectives
from headrace.bench.capacity import live
from headrace.bench.capacity.evidence import Told
from headrace.bench.capacity.live import Found, LiveSearch, Look
from headrace.bench.capacity.search import Search
from headrace.bench.client.spec import ClientSpec
from headrace.bench.errors import BenchError
from headrace.bench.workload.spec import ClosedLoop, Dataset, Gamma
from headrace.policy.work import RAW_TOKENS

SLOTS, OUTPUT, SERVICE_S = 4, 4, 0.04
SATURATED = SLOTS / SERVICE_S
"""Requests/s at which every slot is always busy."""
SLO = objectives.parse("e2e_p80=300ms")
BUDGET_S = 60.0


@pytest.fixture
def spec() -> ClientSpec:
    return client_spec("http://virtual", key="k")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> VirtualServer:
    return virtual(SERVICE_S, monkeypatch)


def virtual(service_s: float, monkeypatch: pytest.MonkeyPatch) -> VirtualServer:
    """A server that every search is carried out on."""
    server = VirtualServer(SLOTS, service_s)
    monkeypatch.setattr(live, "Run", server.run)
    monkeypatch.setattr(live, "time", server.clock)
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(live, "SETTLE_S", 0.0)
    return server


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
    server: VirtualServer, spec: ClientSpec
) -> None:
    kept: list[list[Told]] = []
    first = await found(search(BUDGET_S), spec, on_told=lambda told: kept.append(list(told)))
    answer = first.answer
    assert answer is not None and answer.verdict == "PASS" and answer.limit == "bound"
    assert answer.seconds < BUDGET_S
    assert answer.confirmed == SATURATED / 2
    assert (answer.input_tokens, answer.output_tokens, answer.work) == (8.0, OUTPUT, 8.0 + OUTPUT)
    assert [len(told) for told in kept] == list(range(1, len(kept) + 1))

    again = search(BUDGET_S)
    again.retell(kept[-1])
    probed: list[Look] = []
    resumed = await found(again, spec, on_look=probed.append)
    assert resumed.answer == answer and not probed


async def test_a_search_without_a_bound_ends_in_its_time_and_confirms_nothing_that_cannot_be(
    server: VirtualServer, spec: ClientSpec
) -> None:
    answer = (await found(search(BUDGET_S, most_rate=4 * SATURATED), spec)).answer
    assert answer is not None and answer.verdict in ("PASS", "UNRESOLVED")
    assert answer.seconds < BUDGET_S + 10.0
    assert answer.confirmed is None or answer.confirmed < 1.1 * SATURATED
    assert any(point.verdict == "FAIL" for point in answer.curve)


async def test_looks_tell_how_far_the_search_has_come(server: VirtualServer, spec: ClientSpec) -> None:
    looks: list[Look] = []
    await found(search(BUDGET_S), spec, on_look=looks.append)
    spent = [look.spent_s for look in looks]
    assert spent == sorted(spent) and spent[-1] < BUDGET_S
    assert looks[0].probe.phase == "floor" and looks[-1].probe.phase == "confirm"
    assert looks[-1].interval is not None


async def test_an_interrupted_search_keeps_what_it_was_told_and_can_be_gone_on_with(
    server: VirtualServer, spec: ClientSpec
) -> None:
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


async def test_where_an_answer_takes_longer_than_the_budget_nothing_is_resolved_and_more_is_asked_for(
    spec: ClientSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual(20.0, monkeypatch)
    first = search(5.0)
    answer = (await found(first, spec)).answer
    assert answer is not None and (answer.verdict, answer.limit) == ("UNRESOLVED", "budget")
    assert answer.reason.startswith("the budget ended before one answer was complete")
    assert answer.requests == 0 and not answer.curve

    more = search(1000.0)
    more.retell(first.told, first.budgets)
    longer = (await found(more, spec)).answer
    assert longer is not None and longer.verdict == "FAIL", "one stream takes 20 s where 300 ms are wanted"


async def test_a_server_that_answers_nothing_ends_the_search_in_words() -> None:
    refusal = always(whole("401 Unauthorized", b'{"error":{"message":"no such key"}}'))
    async with serving(refusal) as url:
        with pytest.raises(BenchError, match=r"no request was answered, so there is no capacity .*401: no such key$"):
            await found(search(30.0), client_spec(url))


async def test_probes_are_of_new_requests_with_the_burstiness_that_was_asked_for(
    tmp_path: Path, server: VirtualServer, spec: ClientSpec
) -> None:
    """Of a dataset, each probe sends others than the first ones of the file, and none that a cache has seen."""
    file = tmp_path / "lengths.csv"
    file.write_text("input,output\n" + f"20,{OUTPUT}\n" * 8)
    asked = msgspec.structs.replace(
        spec, load=msgspec.structs.replace(spec.load, source=Dataset(path=str(file), format="lengths"))
    )
    async with asyncio.timeout(120):
        await LiveSearch(search(20.0), asked, SLO, asyncio.Event(), cv=3.0).run()
    loads = [run.spec.load for run in server.runs]
    open_loops = [load.arrivals for load in loads if not isinstance(load.arrivals, ClosedLoop)]
    assert open_loops and all(isinstance(arrivals, Gamma) and arrivals.cv == 3.0 for arrivals in open_loops)
    assert len({load.content.salt for load in loads}) == len({load.seed for load in loads}) == len(loads) > 1
    assert all(isinstance(load.source, Dataset) and load.source.shuffle for load in loads)
