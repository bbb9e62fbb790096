"""Each validity gate, seen to pass and to fail."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_run import HEALTHY, changed, poisson, run, spec

from headrace.bench import slo
from headrace.bench.client.records import ProcessReport, Records
from headrace.bench.results import gates
from headrace.bench.results.gates import Gate
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.slo import Criterion, Slo
from headrace.bench.workload.spec import Arrivals, ClosedLoop, Constant, Poisson

OBJECTIVE = slo.parse("ttft_p99=500ms")
DUE = poisson(20.0, 100.0)
SOUND = run(DUE)


def told(records: Records, name: str, *, arrivals: Arrivals | None = None, **more: object) -> Gate:
    """What the gate of this name says."""
    summary = summarize(records, spec=spec(arrivals or Poisson(20.0), duration_s=100.0), **more)  # type: ignore[arg-type]
    return next(gate for gate in summary.gates if gate.name == name)


def with_process(**changes: object) -> Records:
    return replace(SOUND, processes=(HEALTHY, msgspec.structs.replace(HEALTHY, process=1, **changes)))


def judged_sound() -> Summary:
    return summarize(
        SOUND, spec=spec(Poisson(20.0), duration_s=100.0), slo=OBJECTIVE, null_before_s=0.001, null_after_s=0.002
    )


def test_a_sound_run_passes_every_gate() -> None:
    summary = judged_sound()
    assert summary.valid and summary.reasons == ()
    assert all(gate.passed for gate in summary.gates)


def test_an_invalid_run_says_why() -> None:
    summary = summarize(with_process(cpu_s=71.0), spec=spec(Poisson(20.0), duration_s=100.0))
    assert not summary.valid
    assert summary.reasons == (
        "client CPU: the busiest of 2 client processes used 71% of a core; "
        "give the client more processes, or a machine of its own",
    )


@pytest.mark.parametrize(
    ("name", "records", "passes"),
    [
        ("client CPU", with_process(cpu_s=69.0), True),
        ("client CPU", with_process(cpu_s=71.0), False),
        ("client processes", with_process(crashed="killed by signal 9"), False),
        ("event-loop lag p99", with_process(loop_lag_p99_s=0.0049), True),
        ("event-loop lag p99", with_process(loop_lag_p99_s=0.0051), False),
        ("schedule lag p99", run(DUE, lag_s=0.0049), True),
        ("schedule lag p99", run(DUE, lag_s=0.0051), False),
        ("stolen CPU", replace(SOUND, stolen_share=0.04), True),
        ("stolen CPU", replace(SOUND, stolen_share=0.06), False),
        ("output length", changed(SOUND, output_tokens=np.where(np.arange(len(DUE)) % 200, 11, 10)), True),
        ("output length", changed(SOUND, output_tokens=np.where(np.arange(len(DUE)) % 50, 11, 10)), False),
        ("input tokens", run(DUE, input_tokens=1000), True),
        ("input tokens", changed(run(DUE, input_tokens=1000), input_tokens=1009), True),
        ("input tokens", changed(run(DUE, input_tokens=1000), input_tokens=1011), False),
        ("number of requests", run(DUE[:20]), True),
        ("number of requests", run(DUE[:19]), False),
    ],
)
def test_limits_without_an_objective(name: str, records: Records, passes: bool) -> None:
    assert told(records, name).passed is passes


@pytest.mark.parametrize(
    ("name", "records", "passes"),
    [
        ("event-loop lag p99", with_process(loop_lag_p99_s=0.0051), False),
        ("event-loop lag p99", with_process(loop_lag_p99_s=0.0049), True),
        ("schedule lag p99", run(DUE, lag_s=0.0051), False),
        ("schedule lag p99", run(DUE, lag_s=0.0049), True),
        ("number of requests", run(DUE[DUE < 14.0]), False),
        ("number of requests", run(DUE[DUE < 30.0]), True),
    ],
)
def test_limits_follow_the_objective(name: str, records: Records, passes: bool) -> None:
    assert told(records, name, slo=OBJECTIVE).passed is passes


@pytest.mark.parametrize(
    ("ttft_s", "lag_s", "passes"),
    [
        (2.0, 0.0199, True),  # 1% of the limit
        (2.0, 0.0201, False),
        (0.2, 0.0049, True),  # a busy machine's 5 ms, up to 5% of the limit
        (0.2, 0.0051, False),
        (0.04, 0.0019, True),
        (0.04, 0.0021, False),
    ],
)
def test_a_lag_is_held_against_the_ttft_limit(ttft_s: float, lag_s: float, passes: bool) -> None:
    objective = Slo((Criterion(attainment=0.9, ttft_s=ttft_s),))
    assert told(with_process(loop_lag_p99_s=lag_s), "event-loop lag p99", slo=objective).passed is passes
    assert told(run(DUE, lag_s=lag_s), "schedule lag p99", slo=objective).passed is passes


def test_without_an_objective_a_lag_is_held_against_the_median_ttft() -> None:
    slow = run(DUE, ttft_s=3.0)
    assert told(
        replace(slow, processes=(msgspec.structs.replace(HEALTHY, loop_lag_p99_s=0.029),)), "event-loop lag p99"
    ).passed
    assert not told(
        replace(slow, processes=(msgspec.structs.replace(HEALTHY, loop_lag_p99_s=0.031),)), "event-loop lag p99"
    ).passed


def test_a_marks_worth_of_tokens_is_no_disagreement_on_short_prompts() -> None:
    assert told(changed(run(DUE, input_tokens=20), input_tokens=22), "input tokens").passed
    assert told(changed(run(DUE, input_tokens=20), input_tokens=23), "input tokens").passed is False


def test_without_usage_lengths_cannot_be_checked() -> None:
    silent = changed(SOUND, counted=False)
    assert told(silent, "output length").passed is None
    assert told(silent, "input tokens").passed is None


def test_lengths_that_nobody_asked_for_are_not_checked() -> None:
    free = changed(SOUND, asked_output=-1, asked_input=-1)
    assert told(free, "output length").passed is None
    assert told(free, "input tokens").passed is None


def test_a_tenth_of_requests_that_never_went_out_fails_the_delivered_rate() -> None:
    missing = replace(SOUND, requests=SOUND.requests[np.arange(len(DUE)) % 10 > 0])
    gate = told(missing, "delivered rate")
    assert gate.passed is False and gate.value is not None and gate.value > 4
    assert told(SOUND, "delivered rate").value == 0.0


def test_a_client_that_sends_in_bunches_fails_the_test_of_gaps() -> None:
    bunched = changed(SOUND, sent_s=np.ceil(DUE / 0.2) * 0.2)  # as a timer of 200 ms would
    assert told(bunched, "gaps between requests").passed is False
    late = changed(SOUND, sent_s=DUE + np.random.default_rng(1).exponential(0.001, len(DUE)))
    assert told(late, "gaps between requests").passed


def test_the_distance_of_samples_is_judged_as_kolmogorov_and_smirnov_do() -> None:
    generator = np.random.default_rng(5)
    alike = [gates.ks_p(generator.random(300), generator.random(300)) for _ in range(400)]
    assert np.mean(np.array(alike) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert gates.ks_p(generator.random(300), generator.random(300) + 0.3) < 1e-6


def test_equal_gaps_differ_by_no_more_than_a_lag_that_is_allowed() -> None:
    even = np.arange(0.0, 100.0, 0.05)
    sent = even + np.random.default_rng(1).exponential(0.0005, len(even))
    planned = changed(run(even), sent_s=sent)
    assert told(planned, "gaps between requests").passed
    late = changed(run(even), sent_s=np.ceil(even / 0.2) * 0.2)
    assert told(late, "gaps between requests").passed is False


def test_prose_that_is_right_on_average_agrees() -> None:
    spread = np.random.default_rng(2).integers(-6, 7, len(DUE))
    assert told(changed(SOUND, input_tokens=100 + spread), "input tokens").passed
    assert told(changed(SOUND, input_tokens=105 + spread), "input tokens").passed is False


def test_a_closed_loop_has_no_planned_rate_and_no_gaps() -> None:
    closed = replace(SOUND, planned_s=None)
    for name in ("delivered rate", "gaps between requests"):
        assert told(closed, name, arrivals=ClosedLoop(users=4)).passed is None


def test_even_arrivals_are_not_tested_for_randomness() -> None:
    assert told(run(np.arange(0, 100, 0.05)), "gaps between requests", arrivals=Constant(20.0)).passed is None


def test_littles_law_holds_in_a_steady_run_and_states_its_allowance() -> None:
    gate = told(SOUND, "Little's law")
    assert gate.passed and "across the edges allowed" in gate.words


def test_littles_law_finds_work_left_over_at_the_end() -> None:
    # The last 30 of 3000 requests take 30 s instead of 1: nothing of that shows within the window.
    scheduled = np.arange(0.0, 30.0, 0.01)
    gate = told(run(scheduled, ttft_s=np.where(scheduled < 29.7, 1.0, 30.0), tpot_s=0.0), "Little's law")
    assert gate.passed is False and gate.about == "load"


def test_an_overloaded_server_fails_no_gate_on_the_client() -> None:
    overloaded = run(DUE, ttft_s=1.0 + DUE * 0.5)
    summary = summarize(overloaded, spec=spec(Poisson(20.0), duration_s=100.0), slo=OBJECTIVE)
    assert summary.window.start_s is None
    assert [gate.name for gate in summary.gates if gate.passed is False] == []
    assert next(gate for gate in summary.gates if gate.name == "Little's law").passed is None


@pytest.mark.parametrize(("p99_s", "passes"), [(0.024, True), (0.026, False), (None, None)])
def test_a_null_server_shows_what_the_client_adds_before_and_after(p99_s: float | None, passes: bool | None) -> None:
    assert told(SOUND, "null server before", slo=OBJECTIVE, null_before_s=p99_s).passed is passes
    assert told(SOUND, "null server after", slo=OBJECTIVE, null_after_s=p99_s).passed is passes


def test_without_an_objective_the_null_server_is_held_against_the_median_ttft() -> None:
    assert told(SOUND, "null server before", null_before_s=0.009).passed
    assert told(SOUND, "null server before", null_before_s=0.011).passed is False


def test_a_process_that_told_nothing_leaves_its_gates_open() -> None:
    silent = replace(SOUND, processes=())
    for name in ("client CPU", "event-loop lag p99"):
        assert told(silent, name).passed is None
    idle = replace(SOUND, processes=(ProcessReport(**{**msgspec.structs.asdict(HEALTHY), "wall_s": 0.0}),))
    assert told(idle, "client CPU").passed is None
