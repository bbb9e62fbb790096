"""The traffic split: every entity gets its percentage, at all times and not only in the end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.policy.traffic import TrafficSplit


@st.composite
def percentages(draw: st.DrawFn) -> list[int]:
    """What a config may say: whole percentages that add up to 100, some of them perhaps 0."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=19)))
    return [end - start for start, end in zip([0, *cuts], [*cuts, 100], strict=True)]


@given(percentages(), st.integers(1, 250))
@example([3, 1, 1, 26, 3, 4, 5, 7, 5, 5, 21, 19], 250)  # where largest-debt-first is off by more than one
def test_from_the_first_request_each_entity_is_within_one_request_of_its_share(shares: list[int], total: int) -> None:
    split = TrafficSplit(shares)
    counts: Counter[int] = Counter()
    for requests in range(1, total + 1):
        counts[split.next()] += 1
        assert all(abs(counts[index] * 100 - share * requests) < 100 for index, share in enumerate(shares))


@given(percentages(), st.integers(0, 150), st.integers(1, 150))
def test_over_any_stretch_each_entity_is_within_two_requests_of_its_share(
    shares: list[int], skipped: int, length: int
) -> None:
    split = TrafficSplit(shares)
    counts = Counter([split.next() for _ in range(skipped + length)][skipped:])
    assert all(abs(counts[index] * 100 - share * length) < 200 for index, share in enumerate(shares))


@given(percentages())
def test_a_hundred_requests_are_split_exactly_and_the_next_hundred_in_the_same_order(shares: list[int]) -> None:
    split = TrafficSplit(shares)
    first = [split.next() for _ in range(100)]
    assert [first.count(index) for index in range(len(shares))] == shares
    assert [split.next() for _ in range(100)] == first


def test_requests_of_equal_entities_alternate() -> None:
    split = TrafficSplit([50, 50])
    assert [split.next() for _ in range(6)] == [0, 1, 0, 1, 0, 1]


def test_a_small_share_is_spread_and_not_bunched() -> None:
    split = TrafficSplit([80, 20])
    turns = [turn for turn in range(1, 101) if split.next() == 1]
    assert {later - earlier for earlier, later in pairwise(turns)} == {5}


@pytest.mark.parametrize("shares", [[], [0, 0], [-1, 101]])
def test_a_split_needs_somebody_to_send_to(shares: list[int]) -> None:
    with pytest.raises(ValueError, match="percentages must not be negative, and one must be positive"):
        TrafficSplit(shares)
