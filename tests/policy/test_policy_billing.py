"""Bills: who pays for what, and sums that can be done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.billing import HOUR_MS, CapacityPoint, amount_micro, hourly_lines

POINT = CapacityPoint(
    at_ms=0,
    ready=1,
    draining_own=0,
    min_chunks=1,
    endpoint_ready=True,
    price_micro_per_chunk_hour=1_000_000,
    config_version=1,
)

points = st.lists(
    st.builds(
        CapacityPoint,
        at_ms=st.integers(0, 4 * HOUR_MS),
        ready=st.integers(0, 5),
        draining_own=st.integers(0, 3),
        min_chunks=st.integers(0, 3),
        endpoint_ready=st.booleans(),
        price_micro_per_chunk_hour=st.integers(0, 10**7),
        config_version=st.integers(1, 3),
        exists=st.booleans(),
    ),
    max_size=12,
).map(lambda drawn: sorted(drawn, key=lambda point: point.at_ms))


@pytest.mark.parametrize(
    ("state", "billed"),
    [
        ({"ready": 3}, 3),
        ({"ready": 1, "min_chunks": 2}, 2),  # a replacement after a failure: the endpoint serves, the minimum holds
        ({"ready": 1, "min_chunks": 2, "endpoint_ready": False}, 1),  # missing through our failure
        ({"ready": 0, "min_chunks": 2, "endpoint_ready": False}, 0),  # still loading
        ({"ready": 1, "draining_own": 1}, 2),
        ({"ready": 0, "min_chunks": 0}, 0),  # at zero
        ({"ready": 5, "exists": False}, 0),
    ],
)
def test_billed_chunks(state: dict[str, int], billed: int) -> None:
    assert replace(POINT, **state).billed_chunks == billed  # type: ignore[arg-type]


def test_a_line_shows_the_inputs_that_make_it() -> None:
    timeline = [POINT, replace(POINT, at_ms=600_000, ready=2), replace(POINT, at_ms=1_500_000, ready=1)]
    (line,) = hourly_lines(timeline, 0, HOUR_MS)
    assert [(span.from_ms, span.to_ms, span.chunks) for span in line.spans] == [
        (0, 600_000, 1),
        (600_000, 1_500_000, 2),
        (1_500_000, 3_600_000, 1),
    ]
    assert line.chunk_ms == 4_500_000
    assert line.amount_micro == 1_250_000


def test_lines_split_by_hour_config_version_and_price() -> None:
    timeline = [
        replace(POINT, at_ms=HOUR_MS // 2),
        replace(POINT, at_ms=HOUR_MS + 1000, config_version=2),
        replace(POINT, at_ms=HOUR_MS + 2000, config_version=2, price_micro_per_chunk_hour=2),
    ]
    assert [
        (line.hour_start_ms, line.config_version, line.price_micro_per_chunk_hour, line.chunk_ms)
        for line in hourly_lines(timeline, 0, 2 * HOUR_MS)
    ] == [
        (0, 1, 1_000_000, HOUR_MS // 2),
        (HOUR_MS, 1, 1_000_000, 1000),
        (HOUR_MS, 2, 1_000_000, 1000),
        (HOUR_MS, 2, 2, HOUR_MS - 2000),
    ]


def test_unchanged_points_within_an_hour_are_one_span() -> None:
    timeline = [POINT, replace(POINT, at_ms=1000), replace(POINT, at_ms=2000)]
    (line,) = hourly_lines(timeline, 0, 3000)
    assert [(span.from_ms, span.to_ms) for span in line.spans] == [(0, 3000)]


def test_hours_at_zero_have_no_line() -> None:
    assert hourly_lines([replace(POINT, ready=0, min_chunks=0)], 0, 5 * HOUR_MS) == []


@pytest.mark.parametrize(("chunk_ms", "amount"), [(0, 0), (1_799_999, 0), (1_800_000, 1), (5_400_000, 2)])
def test_amounts_round_half_up(chunk_ms: int, amount: int) -> None:
    assert amount_micro(chunk_ms, 1) == amount


@given(points, st.lists(st.integers(0, 5 * HOUR_MS), min_size=2, max_size=6).map(sorted))
def test_chunk_time_adds_up_over_any_split(timeline: list[CapacityPoint], cuts: list[int]) -> None:
    def chunk_ms(start: int, end: int) -> int:
        return sum(line.chunk_ms for line in hourly_lines(timeline, start, end))

    assert chunk_ms(cuts[0], cuts[-1]) == sum(map(chunk_ms, cuts, cuts[1:]))


@given(points, st.integers(0, 5))
def test_amounts_add_up_over_a_split_at_an_hour(timeline: list[CapacityPoint], hour: int) -> None:
    whole = hourly_lines(timeline, 0, 5 * HOUR_MS)
    parts = hourly_lines(timeline, 0, hour * HOUR_MS) + hourly_lines(timeline, hour * HOUR_MS, 5 * HOUR_MS)
    assert sorted(map(repr, whole)) == sorted(map(repr, parts))


@given(points)
def test_the_bill_is_the_integral_of_the_billed_chunks(timeline: list[CapacityPoint]) -> None:
    expected = 0
    for point, following in zip(timeline, [*timeline[1:], None], strict=False):
        until = 5 * HOUR_MS if following is None else following.at_ms
        expected += point.billed_chunks * (until - point.at_ms)
    lines = hourly_lines(timeline, 0, 5 * HOUR_MS)
    assert sum(line.chunk_ms for line in lines) == expected
    for line in lines:
        assert all(line.hour_start_ms <= s.from_ms < s.to_ms <= line.hour_start_ms + HOUR_MS for s in line.spans)


def test_a_timeline_out_of_order_or_with_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        hourly_lines([replace(POINT, at_ms=5), POINT], 0, 10)
    with pytest.raises(ValueError, match="negative"):
        hourly_lines([replace(POINT, ready=-1)], 0, 10)
