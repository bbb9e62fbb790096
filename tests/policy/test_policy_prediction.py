"""The length of an answer before it is made: learned per key, with what all keys taught as the prior."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.prediction import ENOUGH, KEY_WINDOW, KEYS, WINDOW, OutputPrediction, RecentLengths

DEFAULT = 500


def learned(*answers: tuple[str, int], limit: int = 10_000) -> OutputPrediction:
    prediction = OutputPrediction()
    for key, length in answers:
        prediction.observe(key, length, limit, DEFAULT)
    return prediction


def test_nothing_learned_is_the_default_clipped_by_the_limit() -> None:
    assert OutputPrediction().predict("k", 10_000, DEFAULT) == DEFAULT
    assert OutputPrediction().predict("k", 8, DEFAULT) == 8


def test_a_key_of_its_own_is_predicted_by_its_own_answers() -> None:
    prediction = learned(*[("short", 10), ("long", 900)] * ENOUGH)
    assert prediction.predict("short", 10_000, DEFAULT) == 10
    assert prediction.predict("long", 10_000, DEFAULT) == 900
    assert prediction.predict("long", 100, DEFAULT) == 100


def test_until_a_key_has_answered_enough_all_keys_stand_in() -> None:
    prediction = learned(*[("old", 40)] * ENOUGH, *[("new", 7)] * (ENOUGH - 1))
    assert prediction.predict("new", 10_000, DEFAULT) == 40
    prediction.observe("new", 7, 10_000, DEFAULT)
    assert prediction.predict("new", 10_000, DEFAULT) == 7


def test_answers_cut_by_a_short_limit_teach_nothing_of_longer_ones() -> None:
    prediction = learned(*[("k", 5)] * 20, limit=5)
    assert prediction.predict("k", 10_000, DEFAULT) == DEFAULT


def test_an_answer_cut_beyond_what_was_expected_teaches_that_they_are_longer() -> None:
    prediction = learned(*[("k", 5)] * ENOUGH)
    for _ in range(KEY_WINDOW):
        prediction.observe("k", 50, 50, DEFAULT)
    assert prediction.predict("k", 10_000, DEFAULT) == 50


def test_of_too_many_keys_the_one_that_was_answered_the_longest_ago_is_forgotten() -> None:
    prediction = learned(*[("early", 7)] * ENOUGH, *[("kept", 9)] * ENOUGH, *[("busy", 100)] * WINDOW)
    for number in range(KEYS):
        prediction.observe("kept", 9, 10_000, DEFAULT)
        prediction.observe(f"key {number}", 100, 10_000, DEFAULT)
    assert prediction.predict("kept", 10_000, DEFAULT) == 9
    assert prediction.predict("early", 10_000, DEFAULT) == 100
    assert len(prediction._keys) == KEYS


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=200), st.integers(ENOUGH, 50))
def test_the_quantile_is_that_of_the_last_answers(lengths: list[int], window: int) -> None:
    recent = RecentLengths(window)
    for length in lengths:
        recent.add(length)
    last = sorted(lengths[-window:])
    if len(last) < ENOUGH:
        assert recent.quantile is None
        return
    assert recent.quantile is not None
    not_longer = sum(length <= recent.quantile for length in last)
    assert not_longer >= ceil(0.9 * len(last)) - 1
    assert sum(length < recent.quantile for length in last) <= 0.9 * len(last)


@pytest.mark.parametrize("count", [0, ENOUGH - 1])
def test_a_quantile_of_few_answers_is_not_believed(count: int) -> None:
    recent = RecentLengths(WINDOW)
    for _ in range(count):
        recent.add(10)
    assert recent.quantile is None
