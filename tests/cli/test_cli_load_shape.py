"""Which load the options ask for together, and which of them do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.bench.target import Target, Terms
from headrace.bench.workload.source import Workload, open_workload
from headrace.bench.workload.spec import (
    Amount,
    ClosedLoop,
    Dataset,
    Gamma,
    LoadSpec,
    Poisson,
    Replay,
    Stage,
    Stages,
    Synthetic,
    Uniform,
)
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.load_shape import Shape, check_enough
from headrace.policy.work import Weights

WEIGHTS = Weights(w_in=1.0, w_out=4.0, w_pp=0.0, w_dd=0.0, w_c=0.0)
TERMS = Terms(chunk=100.0, weights=WEIGHTS)
NOTHING = Amount()


def shape(**said: Any) -> Shape:
    empty = dict.fromkeys(("users", "rate", "rate_chunks", "rate_requests", "arrivals", "time_scale", "stages"))
    return Shape(**{**empty, "ramp": 0.0, **said})


def target(terms: Terms = TERMS) -> Target:
    return Target("headrace", "http://h", "m", None, terms=terms)


@pytest.fixture
def workload() -> Workload:
    """Requests of 20 input and 5 output tokens: 40 reference tokens."""
    source = Synthetic(input=Uniform(20, 20), output=Uniform(5, 5))
    return open_workload(LoadSpec(model="m", source=source, arrivals=ClosedLoop(users=1), amount=Amount(requests=1)))


@pytest.fixture
def trace(tmp_path: Path) -> Workload:
    rows = "".join(f"2023-11-16 18:15:{second:02d}.0000000,20,5\n" for second in range(10))
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    source = Dataset(path=str(file))
    return open_workload(LoadSpec(model="m", source=source, arrivals=ClosedLoop(users=1), amount=Amount(requests=1)))


def test_one_user_unless_said_otherwise(workload: Workload) -> None:
    assert shape().levels(target(), workload) == [ClosedLoop(users=1)]


def test_each_level_is_a_load_of_its_own(workload: Workload) -> None:
    assert shape(users="1,4", ramp=3.0).levels(target(), workload) == [
        ClosedLoop(users=1, ramp_s=3.0),
        ClosedLoop(users=4, ramp_s=3.0),
    ]
    assert shape(rate_requests="2,3", arrivals="gamma:2").levels(target(), workload) == [Gamma(2, 2), Gamma(3, 2)]


def test_a_rate_of_reference_tokens_is_divided_by_what_a_request_weighs(workload: Workload) -> None:
    assert shape(rate="80").levels(target(), workload) == [Poisson(2.0)]
    assert shape(rate_chunks="0.5,2").levels(target(), workload) == [Poisson(50 / 40), Poisson(200 / 40)]


def test_a_rate_of_reference_tokens_needs_weights_and_a_rate_of_chunks_one_chunk(workload: Workload) -> None:
    with pytest.raises(CommandError, match=r"tells no work weights of 'm' to this key; use --rate-requests"):
        shape(rate="80").levels(target(Terms()), workload)
    with pytest.raises(CommandError, match="chunks of different sizes; use --rate"):
        shape(rate_chunks="1").levels(target(Terms(weights=WEIGHTS)), workload)


def test_a_rate_of_reference_tokens_needs_requests_of_known_lengths(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("how are you\n" * 3)
    source = Dataset(path=str(tmp_path / "prompts.txt"))
    unknown = open_workload(LoadSpec(model="m", source=source, arrivals=ClosedLoop(users=1), amount=Amount(requests=1)))
    with pytest.raises(UsageError, match="need requests of known lengths; use --rate-requests"):
        shape(rate="80").levels(target(), unknown)


def test_a_trace_is_replayed_at_its_own_times_scaled_or_at_a_rate(trace: Workload) -> None:
    assert shape(arrivals="trace").levels(target(), trace) == [Replay(time_scale=1.0)]
    assert shape(arrivals="trace", time_scale=2.0).levels(target(), trace) == [Replay(time_scale=2.0)]
    assert shape(arrivals="trace", rate_requests="3").levels(target(), trace) == [Replay(rate=3.0)]


def test_only_a_dataset_with_times_can_be_replayed(workload: Workload) -> None:
    with pytest.raises(UsageError, match="needs a --dataset with times: azure, mooncake or burstgpt"):
        shape(arrivals="trace").levels(target(), workload)


def test_stages_last_as_long_as_they_say_unless_less_is_asked_for(workload: Workload) -> None:
    staged = shape(stages="60@1,30@1..4")
    (stages,) = staged.levels(target(), workload)
    assert stages == Stages((Stage(60, 1, 1), Stage(30, 1, 4)))
    assert staged.amount(NOTHING, stages) == Amount(duration_s=90)
    assert staged.amount(Amount(requests=5), stages) == Amount(requests=5, duration_s=90)
    assert staged.amount(Amount(duration_s=10), stages) == Amount(duration_s=10)


def test_there_are_no_halves_of_users(workload: Workload) -> None:
    with pytest.raises(UsageError, match="expected whole numbers"):
        shape(users="1,2.5").levels(target(), workload)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"users": "1", "rate": "3"}, "give one of --users, --rate"),
        ({"stages": "5@1", "rate_requests": "3"}, "give one of --users, --rate"),
        ({"users": "1", "time_scale": 2.0}, "--time-scale goes with --arrivals trace"),
        ({"rate": "1", "ramp": 3.0}, "--ramp goes with --users"),
        ({"users": "1", "arrivals": "constant"}, "--arrivals goes with a rate"),
        ({"stages": "5@1", "arrivals": "constant"}, "--arrivals goes with a rate"),
        ({"arrivals": "gamma:3"}, "--arrivals gamma:3 needs a rate"),
        ({"arrivals": "trace", "time_scale": 2.0, "rate_requests": "3"}, "give one of --time-scale and a rate"),
    ],
)
def test_options_that_do_not_go_together_are_told(said: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        shape(**said).check(Amount(requests=5))


def test_how_much_has_to_be_said_but_of_what_ends_by_itself() -> None:
    with pytest.raises(UsageError, match=r"say which load: .* and how much: --requests N, --duration TIME, or both"):
        shape().check(NOTHING)
    with pytest.raises(UsageError, match="say how much: --requests N"):
        shape(rate="3").check(NOTHING)
    shape(arrivals="trace").check(NOTHING)
    shape(stages="5@1").check(NOTHING)


def test_a_rate_at_which_no_request_falls_into_the_time_is_refused_with_one_that_is_long_enough() -> None:
    with pytest.raises(
        UsageError, match=r"^0\.03 requests/s for 5 s is less than one request: .* every 33 s; give a longer"
    ):
        check_enough(Poisson(0.03), Amount(duration_s=5.0))


@pytest.mark.parametrize("amount", [Amount(duration_s=40.0), Amount(requests=1)])
def test_time_for_one_request_is_enough(amount: Amount) -> None:
    check_enough(Poisson(0.03), amount)
