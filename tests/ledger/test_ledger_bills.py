"""Capacity and bills: append-only points, lines that anybody can make again, sums that are never added on replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from database_url import database_url
from headrace.ledger.bills import bill, decimal
from headrace.ledger.capacity import CapacityTimeline
from headrace.ledger.database import Database
from headrace.ledger.schema import LedgerBase
from headrace.policy.billing import HOUR_MS, CapacityPoint

T0 = 1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS


def point(at_ms: int, ready: int = 1, **changes: object) -> CapacityPoint:
    plain = CapacityPoint(
        at_ms=at_ms,
        ready=ready,
        draining_own=0,
        min_chunks=1,
        endpoint_ready=ready > 0,
        price_micro_per_chunk_hour=1_000_000,
        config_version=1,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(database_url(tmp_path))
    LedgerBase.metadata.create_all(database.engine)
    yield database
    database.close()


def test_a_point_that_says_nothing_new_is_not_written(database: Database) -> None:
    timeline = CapacityTimeline(database)
    assert timeline.note("e", "n", point(T0)) is True
    assert timeline.note("e", "n", point(T0 + 5)) is False
    assert timeline.note("e", "n", point(T0 + 9, ready=2)) is True
    assert timeline.points("e", T0 + 10) == {"n": [point(T0), point(T0 + 9, ready=2)]}


def test_the_timeline_never_goes_back(database: Database) -> None:
    timeline = CapacityTimeline(database)
    timeline.note("e", "n", point(T0 + 100))
    timeline.note("e", "n", point(T0 + 50, ready=2))
    assert [p.at_ms for p in timeline.points("e", T0 + 1000)["n"]] == [T0 + 100, T0 + 100]


def test_points_and_heartbeat_survive_a_restart(database: Database) -> None:
    timeline = CapacityTimeline(database)
    assert timeline.last_beat_ms() is None
    timeline.note("e", "n", point(T0))
    timeline.note("e", "n", point(T0 + 1, ready=2))
    timeline.note("other", "m", point(T0))
    timeline.beat(T0 + 7)
    timeline.beat(T0 + 8)
    again = CapacityTimeline(database)
    assert again.newest("e") == {"n": point(T0 + 1, ready=2)}
    assert again.note("e", "n", point(T0 + 5, ready=2)) is False
    assert again.last_beat_ms() == T0 + 8
    assert again.endpoints() == ["e", "other"]


def test_a_bill_over_two_hours_at_two_prices_by_hand(database: Database) -> None:
    timeline = CapacityTimeline(database)
    timeline.note("e", "n", point(T0 + 1_800_000))
    timeline.note("e", "n", point(T0 + HOUR_MS, ready=2))
    timeline.note(
        "e", "n", point(T0 + HOUR_MS + 600_000, ready=2, price_micro_per_chunk_hour=3_000_000, config_version=2)
    )
    timeline.note("e", "n", point(T0 + HOUR_MS + 1_200_000, ready=0, exists=False))
    whole = bill(timeline, "e", T0, T0 + 9 * HOUR_MS, T0 + 9 * HOUR_MS)
    assert [
        (line.chunk_ms, line.price_micro_per_chunk_hour, line.amount_micro) for line in whole.entities[0].lines
    ] == [
        (1_800_000, 1_000_000, 500_000),
        (2 * 600_000, 1_000_000, 333_333),
        (2 * 600_000, 3_000_000, 1_000_000),
    ]
    assert (whole.chunk_ms, whole.amount_micro, decimal(whole.amount_micro)) == (4_200_000, 1_833_333, "1.833333")


def test_the_bill_of_an_endpoint_is_the_sum_of_what_each_entity_cost_at_its_own_price(database: Database) -> None:
    timeline = CapacityTimeline(database)
    timeline.note("e", "big", point(T0, ready=2))
    timeline.note("e", "small", point(T0 + 600_000, price_micro_per_chunk_hour=500_000))
    timeline.note("e", "big", point(T0 + 1_800_000, ready=0, exists=False))
    timeline.note("e", "never", point(T0, ready=0))
    timeline.note("other", "big", point(T0))
    whole = bill(timeline, "e", T0, T0 + HOUR_MS, T0 + HOUR_MS)
    assert [(one.entity, one.chunk_ms, one.amount_micro) for one in whole.entities] == [
        ("big", 3_600_000, 1_000_000),
        ("small", 3_000_000, 416_667),
    ]
    assert (whole.chunk_ms, whole.amount_micro) == (6_600_000, 1_416_667)


def test_time_that_has_not_come_costs_nothing(database: Database) -> None:
    timeline = CapacityTimeline(database)
    timeline.note("e", "n", point(T0))
    assert bill(timeline, "e", T0, T0 + HOUR_MS, now_ms=T0 + 1000).chunk_ms == 1000


@pytest.mark.parametrize(
    ("micro", "text"), [(0, "0.000000"), (1, "0.000001"), (41_667, "0.041667"), (12_345_678_901, "12345.678901")]
)
def test_amounts_are_shown_with_all_their_places(micro: int, text: str) -> None:
    assert decimal(micro) == text


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * HOUR_MS), st.integers(0, 4)), min_size=1, max_size=12),
    st.integers(0, 4 * HOUR_MS),
)
def test_a_bill_split_anywhere_is_the_same_chunk_time(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], split: int
) -> None:
    database = Database(database_url(tmp_path_factory.mktemp("split")))
    LedgerBase.metadata.create_all(database.engine)
    timeline = CapacityTimeline(database)
    for at, ready in sorted(changes):
        timeline.note("e", "n", point(T0 + at, ready=ready))
    end, middle = T0 + 4 * HOUR_MS, T0 + split
    whole = bill(timeline, "e", T0, end, end).chunk_ms
    assert whole == bill(timeline, "e", T0, middle, end).chunk_ms + bill(timeline, "e", middle, end, end).chunk_ms
    database.close()
