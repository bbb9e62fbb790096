"""What the words of a load's options mean, and what is said of words that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.bench.workload.spec import Constant, Gamma, LogNormal, Normal, Poisson, Stage, Stages, Uniform
from headrace.cli import load_words, times
from headrace.cli.errors import UsageError


@pytest.mark.parametrize(
    ("words", "lengths"),
    [
        ("2048", Uniform(2048, 2048)),
        ("100..300", Uniform(100, 300)),
        ("normal:1024,200", Normal(1024, 200)),
        ("normal:1024,200,64..4096", Normal(1024, 200, 64, 4096)),
        ("lognormal:512,0.7", LogNormal(512, 0.7)),
        ("lognormal:512,0.7,16..8192", LogNormal(512, 0.7, 16, 8192)),
    ],
)
def test_lengths_are_fixed_a_span_or_a_distribution(words: str, lengths: object) -> None:
    assert load_words.lengths("--input-tokens", words) == lengths


@pytest.mark.parametrize(
    "words", ["", "many", "1.5", "1..", "normal:5", "gamma:5,1", "normal:5,1,2", "normal:5,1,2..3,4"]
)
def test_other_lengths_are_refused_with_the_option_and_what_was_expected(words: str) -> None:
    with pytest.raises(UsageError, match=r"--output-tokens is .*expected N, A\.\.B"):
        load_words.lengths("--output-tokens", words)


def test_levels_are_one_number_or_several() -> None:
    assert load_words.levels("--users", "4") == [4.0]
    assert load_words.levels("--rate", "0.5,1,2e3") == [0.5, 1.0, 2000.0]


@pytest.mark.parametrize("words", ["", "0", "-1", "a", "1,,2", "nan", "inf", "1e9"])
def test_a_level_is_above_zero_and_finite(words: str) -> None:
    with pytest.raises(UsageError, match="--users is"):
        load_words.levels("--users", words)


def test_arrivals_are_named_and_a_gamma_has_its_coefficient_of_variation() -> None:
    assert load_words.arrivals("poisson", 2) == Poisson(2)
    assert load_words.arrivals("constant", 2) == Constant(2)
    assert load_words.arrivals("gamma:3.5", 2) == Gamma(2, 3.5)


@pytest.mark.parametrize("words", ["gamma", "gamma:", "gamma:0", "gamma:-1", "gamma:x", "gamma:nan", "weibull", ""])
def test_other_arrivals_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match=r"expected poisson, constant, gamma:CV"):
        load_words.arrivals(words, 1)


RATES = st.floats(0.001, 1000).map(lambda rate: float(f"{rate:.3f}"))


@given(st.lists(st.builds(Stage, RATES, RATES, RATES), min_size=1, max_size=5))
def test_stages_read_back_as_they_were_written(stages: list[Stage]) -> None:
    words = ",".join(
        f"{stage.seconds}@{stage.from_rate}" + (f"..{stage.to_rate}" if stage.to_rate != stage.from_rate else "")
        for stage in stages
    )
    assert load_words.stages(words) == Stages(tuple(stages))


def test_a_stage_of_whole_numbers_may_rise_or_fall() -> None:
    assert load_words.stages("60@1, 30@1..4,60@4..0") == Stages((Stage(60, 1, 1), Stage(30, 1, 4), Stage(60, 4, 0)))


@pytest.mark.parametrize("words", ["", "5", "0@3", "5@", "5@1..", "5@1...3", "5@-1", "a@b", "1@2,"])
def test_other_stages_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match=r"expected SECONDS@RATE or SECONDS@FROM\.\.TO"):
        load_words.stages(words)


@pytest.mark.parametrize(
    ("words", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("20min", 1200), ("1h", 3600), ("250ms", 0.25)]
)
def test_times_have_units_and_are_seconds_without_one(words: str, seconds: float) -> None:
    assert times.seconds("--duration", words) == seconds


@pytest.mark.parametrize("words", ["", "0", "0s", "-3", "nan", "inf", "1.2.3", "5 days", "99999999999h"])
def test_a_time_is_above_zero_and_has_an_end(words: str) -> None:
    with pytest.raises(UsageError, match=r"--duration is .*expected a time such as 90s or 20m"):
        times.seconds("--duration", words)


def test_a_time_may_be_zero_where_that_means_something() -> None:
    assert times.seconds("--calibration", "0", least=0) == 0
    assert times.time_parser("--calibration", least=0)(2.0) == 2.0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (5.23, "5.2 s"), (27.94, "28 s"), (60, "60 s"), (72, "1.2 min"), (5400, "1.5 h")]
)
def test_a_span_is_told_rounded(seconds: float, said: str) -> None:
    assert times.span(seconds) == said


def test_the_value_of_a_field_is_json_or_else_a_string() -> None:
    given_fields = ["temperature=0.7", 'stop=["a"]', "user=me", "note=a=b", "empty="]
    assert load_words.fields(given_fields) == {
        "temperature": 0.7,
        "stop": ["a"],
        "user": "me",
        "note": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("words", ["temperature", "=0.7"])
def test_a_field_has_a_name_and_a_value(words: str) -> None:
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        load_words.fields([words])


def test_a_vocabulary_is_two_token_ids() -> None:
    assert load_words.vocabulary("1000..20000") == (1000, 20000)
    for words in ("1000", "a..b", "-1..5"):
        with pytest.raises(UsageError, match="expected two token ids"):
            load_words.vocabulary(words)


def test_the_format_of_a_dataset_is_one_of_those_that_are_read() -> None:
    assert load_words.dataset_format(None) is None
    assert load_words.dataset_format("mooncake") == "mooncake"
    with pytest.raises(UsageError, match="expected one of chat, sharegpt, prompts"):
        load_words.dataset_format("csv")
