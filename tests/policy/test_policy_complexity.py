"""What an operation costs does not grow with what waits, but for the heaps, which are logarithmic.

Bytecodes of the policy are counted, not time: a loop over what waits would show as fifty times as many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from headrace.policy import endpoint
from headrace.policy.endpoint import Ask, Dispatch, EndpointCore, ReplicaState, Terms
from headrace.policy.queueing import BAND_WEIGHTS, Band, FairQueue, Waiting
from headrace.policy.work import RAW_TOKENS

pytestmark = pytest.mark.skipif(not str(endpoint.__file__).endswith(".py"), reason="machine code has no bytecodes")

POLICY = str(Path(endpoint.__file__).parent)
FEW, MANY = 20, 1000
ROUNDS = 1000
"""Operations: as many as wait at most, so that the occasional rebuilding of a heap counts by its share."""


def bytecodes(action: Callable[[], object]) -> int:
    """Bytecodes of the policy that ``action`` runs."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(POLICY):
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def queue_of(waiting: int, keys: int) -> FairQueue[Waiting]:
    queue: FairQueue[Waiting] = FairQueue()
    for number in range(waiting):
        queue.push(entry(f"first {number}", number % keys, number))
    return queue


def entry(rid: str, key: int, number: int) -> Waiting:
    bands: list[Band] = list(BAND_WEIGHTS)
    return Waiting(rid, f"key {key}", bands[key % 3], 1.0 + number % 7, float(number))


def serve_and_push(queue: FairQueue[Waiting], keys: int) -> None:
    for number in range(ROUNDS):
        head = queue.head()
        assert head is not None
        queue.serve(head)
        queue.charge(head, 3.0 - number % 7)
        queue.push(entry(f"more {number}", number % keys, 10_000 + number))


def leave_and_push(queue: FairQueue[Waiting], keys: int) -> None:
    for number in range(ROUNDS):
        oldest = queue.oldest()
        assert oldest is not None
        queue.remove(oldest.rid)
        queue.push(entry(f"more {number}", number % keys, 10_000 + number))


def come_back(queue: FairQueue[Waiting], keys: int) -> None:
    for number in range(ROUNDS):
        queue.push_returned(entry(f"back {number}", number % keys, number))
        head = queue.head()
        assert head is not None
        queue.serve(head)


def displace(queue: FairQueue[Waiting], keys: int) -> None:
    for number in range(ROUNDS):
        loser = queue.displaced_by(newcomer := entry(f"new {number}", keys + 3 * number, 10_000 + number))
        if loser is not None:
            queue.remove(loser.rid)
        queue.push(newcomer)


@pytest.mark.parametrize("operation", [serve_and_push, leave_and_push, come_back, displace])
@pytest.mark.parametrize("one_key", [True, False])
def test_an_operation_of_the_queue_costs_the_same_however_much_waits(
    operation: Callable[[FairQueue[Waiting], int], None], one_key: bool
) -> None:
    costs = []
    for waiting in (FEW, MANY):
        keys = 1 if one_key else waiting
        queue = queue_of(waiting, keys)
        costs.append(bytecodes(lambda queue=queue, keys=keys: operation(queue, keys)))  # type: ignore[misc]
    assert costs[0] > ROUNDS
    assert costs[1] < 1.5 * costs[0]


TERMS = Terms(
    chunk=1e5,
    min_chunks=1,
    max_chunks=1,
    weights=RAW_TOKENS,
    context=1000,
    slots=8,
    default_max_tokens=100,
    max_queue=FEW,
)


def core_of(waiting: int, keys: int) -> EndpointCore:
    core = EndpointCore(replace(TERMS, max_queue=waiting), 0.0)
    core.set_replicas(0.0, [ReplicaState("r", 8, False)])
    for number in range(waiting + 8):
        core.arrive(0.0, Ask(f"first {number}", f"key {number % keys}", "default", 10, 10, 10))
        core.decide(0.0)
    return core


@pytest.mark.parametrize("one_key", [True, False])
def test_a_storm_of_refusals_costs_the_same_for_each_however_many_wait(one_key: bool) -> None:
    def storm(core: EndpointCore) -> None:
        for number in range(ROUNDS):
            assert core.arrive(1.0, Ask(f"storm {number}", "key 0", "default", 10, 10, 10)) is not None
            core.decide(1.0)

    few, many = (core_of(waiting, 1 if one_key else waiting) for waiting in (FEW, MANY))
    assert bytecodes(lambda: storm(many)) < 1.5 * bytecodes(lambda: storm(few))


@pytest.mark.parametrize("one_key", [True, False])
def test_what_is_late_together_costs_the_same_for_each(one_key: bool) -> None:
    few, many = (core_of(waiting, 1 if one_key else waiting) for waiting in (FEW, MANY))
    each = [bytecodes(lambda core=core: core.decide(1e3)) / waiting for core, waiting in ((few, FEW), (many, MANY))]  # type: ignore[misc]
    assert many.observe(1e3).rejected == MANY
    assert each[1] < 1.5 * each[0]


def test_an_overloaded_endpoint_pays_the_same_for_a_request_however_many_wait() -> None:
    def serve(core: EndpointCore) -> None:
        in_flight = [f"first {number}" for number in range(8)]
        for number in range(ROUNDS):
            core.settle(1.0, in_flight.pop(0), new=10, cached=0, out=5 + number % 9, outcome="ok")
            in_flight += [decision.rid for decision in core.decide(1.0) if isinstance(decision, Dispatch)]
            core.arrive(1.0, Ask(f"more {number}", f"key {number % 30}", "default", 10, 10, 10))
            core.decide(1.0)
            core.wake_at(1.0)

    few, many = core_of(FEW, FEW), core_of(MANY, MANY)
    assert bytecodes(lambda: serve(many)) < 1.5 * bytecodes(lambda: serve(few))
