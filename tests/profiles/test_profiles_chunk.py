"""From samples to the chunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.profiles.chunk import chunk_of, interval, nearest_chunks


def test_the_interval_is_that_of_student() -> None:
    # mean 10, standard deviation 1, n = 5: half-width 2.776 / sqrt(5)
    samples = [10 - 2**0.5, 10, 10, 10, 10 + 2**0.5]
    found = interval(samples)
    assert (found.mean, found.low, found.high) == pytest.approx((10, 10 - 1.24149, 10 + 1.24149), abs=1e-4)
    two = interval([9, 11])
    assert two.high - two.mean == pytest.approx(12.706, abs=1e-3)


def test_one_sample_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two samples, not 1"):
        interval([100])


@given(st.lists(st.floats(1, 1e4), min_size=2, max_size=200))
def test_the_mean_is_inside(samples: list[float]) -> None:
    found = interval(samples)
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize(
    ("low", "chunk"), [(1, 1), (9.99, 9), (10, 10), (99.9, 99), (105.2, 100), (118, 110), (999, 990), (12345.6, 12000)]
)
def test_a_chunk_is_rounded_down_to_two_digits(low: float, chunk: int) -> None:
    assert chunk_of(low) == chunk


@pytest.mark.parametrize("low", [0.9, 0, -5, float("nan")])
def test_an_interval_that_promises_nothing_is_no_chunk(low: float) -> None:
    with pytest.raises(ValueError, match="measure for longer"):
        chunk_of(low)


@pytest.mark.parametrize(("value", "nearest"), [(250, (200, 300)), (300, (300, 300)), (40, (0, 100))])
def test_the_nearest_whole_chunks(value: float, nearest: tuple[int, int]) -> None:
    assert nearest_chunks(value, 100) == nearest
