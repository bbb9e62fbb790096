"""A crash loop is slowed down, and replicas that die together are not taken for one."""

from __future__ import annotations

from headrace.controller.backoff import FAILING_AFTER, LONGEST_DELAY_S, STEADY_S, Backoff


def fail(backoff: Backoff, at_s: float, *, started_s: float, served_s: float = 0.0, runs_as: str = "model") -> None:
    backoff.failed(
        int(at_s * 1000),
        runs_as,
        started_ms=int(started_s * 1000),
        served_ms=int(served_s * 1000),
        message="why",
        tail="last words",
    )


def test_each_failure_of_what_was_started_after_the_last_one_doubles_the_wait() -> None:
    backoff, now, waits = Backoff(), 100.0, []
    for _ in range(9):
        fail(backoff, now, started_s=now - 0.5)
        waits.append(backoff.not_before_ms / 1000 - now)
        now = backoff.not_before_ms / 1000 + 0.5
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_DELAY_S, LONGEST_DELAY_S, LONGEST_DELAY_S]
    assert not backoff.may_start(backoff.not_before_ms - 1) and backoff.may_start(backoff.not_before_ms)


def test_replicas_that_die_together_are_one_failure() -> None:
    backoff = Backoff()
    for number in range(8):
        fail(backoff, 100 + number / 10, started_s=50)
    assert (backoff.failures, backoff.failing, backoff.not_before_ms) == (1, False, 101_000)


def test_it_is_failing_after_three_in_a_row_and_one_that_served_for_long_ends_the_row() -> None:
    backoff = Backoff()
    for number in range(FAILING_AFTER):
        assert not backoff.failing
        fail(backoff, 100 + 10 * number, started_s=95 + 10 * number)
    assert backoff.failing
    fail(backoff, 1000, started_s=900, served_s=STEADY_S)
    assert (backoff.failures, backoff.failing) == (1, False)


def test_what_runs_another_model_begins_a_row_of_its_own() -> None:
    backoff = Backoff()
    for number in range(FAILING_AFTER):
        fail(backoff, 100 + 10 * number, started_s=95 + 10 * number)
    fail(backoff, 200, started_s=190, runs_as="another")
    assert backoff.failures == 1


def test_the_row_ends_when_every_replica_has_stayed_ready() -> None:
    backoff, long_ms = Backoff(), int(STEADY_S * 1000)
    fail(backoff, 100, started_s=99)
    assert backoff.not_before_ms == 101_000
    for ready_ms, now_ms in (
        ([], 500_000),
        ([50_000], 101_000 + long_ms - 1),
        ([50_000, None], 500_000),
        ([50_000, 120_000], 120_000 + long_ms - 1),
    ):
        backoff.steady(ready_ms, now_ms)
        assert backoff.failures == 1, (ready_ms, now_ms)
    backoff.steady([50_000, 120_000], 120_000 + long_ms)
    assert backoff.failures == 0


def test_a_clock_that_was_set_back_does_not_lengthen_the_wait() -> None:
    backoff = Backoff()
    fail(backoff, 100, started_s=99)
    assert [backoff.may_start(at_ms) for at_ms in (99_999, 100_000, 100_999, 101_000)] == [True, False, False, True]
