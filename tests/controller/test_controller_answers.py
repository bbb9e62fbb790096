"""How requests ended, added up over gateways and their lives."""

from __future__ import annotations

import msgspec

from headrace.controller.answers import LAST_S, Answers
from headrace.controller.gateways import Gateways
from headrace.gateway.snapshot import (
    DURATION_BOUNDS_S,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    AnswersTick,
    Hello,
    HistogramTick,
    LatencyTick,
    Tick,
)


def histogram(bounds: tuple[float, ...], count: int) -> HistogramTick:
    """So many values of a tenth of a second."""
    return HistogramTick(tuple(count * (place == 3) for place in range(len(bounds) + 1)), count * 0.1)


def ended(count: int, *, status: int = 200, entity: str = "e") -> AnswersTick:
    """So many requests, all chats."""
    duration = histogram(DURATION_BOUNDS_S, count)
    latency = LatencyTick(
        "chat",
        duration,
        duration,
        duration,
        histogram(TTFT_BOUNDS_S, count),
        histogram(TPOT_BOUNDS_S, count),
    )
    return AnswersTick("endpoint", entity, {status: count}, (latency,))


def tick(*answers: AnswersTick) -> Tick:
    return Tick(gateway="", at_ms=0, version=1, answers=answers)


def gateways(*ids: str) -> Gateways:
    found = Gateways()
    for one in ids:
        found.hello(Hello(one, 1))
        found.tick(one, tick(), 0.0)
    return found


def test_two_gateways_are_added_up() -> None:
    both = gateways("g1", "g2")
    both.tick("g1", tick(ended(3)), 1.0)
    both.tick("g2", tick(ended(4)), 1.0)
    counts = both.answers.of("e")
    assert counts.statuses == {200: 7}
    assert (sum(counts.latency["chat"].ttft.counts), counts.latency["chat"].e2e.counts[3]) == (7, 7)


def test_a_gateway_that_starts_again_counts_on() -> None:
    one = gateways("g1")
    for count in (3, 5):
        one.tick("g1", tick(ended(count)), 1.0)
    one.gone("g1", 2.0)
    one.hello(Hello("g1-again", 2))
    one.tick("g1-again", tick(), 3.0)
    one.tick("g1-again", tick(ended(2)), 4.0)
    assert one.answers.of("e").statuses == {200: 7}


def test_what_a_gateway_counted_before_this_controller_is_not_counted_again() -> None:
    later = Gateways()
    later.hello(Hello("g1", 1))
    later.tick("g1", tick(ended(100)), 0.0)
    later.tick("g1", tick(ended(101)), 1.0)
    assert later.answers.of("e").statuses == {200: 1}


def test_a_gateway_that_lost_the_link_and_tells_everything_again_is_counted_once() -> None:
    one = gateways("g1")
    one.tick("g1", tick(ended(3)), 1.0)
    one.gone("g1", 2.0)
    one.hello(Hello("g1", 1))
    one.tick("g1", tick(ended(4)), 3.0)
    assert one.answers.of("e").statuses == {200: 4}


def test_the_last_minute_forgets_what_is_older() -> None:
    answers = Answers()
    answers.add(ended(10), None, 0.0)
    answers.add(ended(12), ended(10), 30.0)
    assert answers.of("e").recent(30.0) == {200: 12}
    assert answers.of("e").recent(LAST_S) == {200: 2}
    assert answers.of("e").recent(30.0 + LAST_S) == {}


def test_the_last_minute_tells_statuses_apart() -> None:
    answers = Answers()
    mixed = msgspec.structs.replace(ended(5), statuses={200: 2, 429: 2, 503: 1})
    answers.add(mixed, None, 1.0)
    assert answers.of("e").recent(2.0) == {200: 2, 429: 2, 503: 1}
