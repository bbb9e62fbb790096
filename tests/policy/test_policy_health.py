"""Passive health: how long a replica that failed is left alone, and how it comes back."""

from __future__ import annotations

from headrace.policy.health import FIRST_BLOCK_S, LONGEST_BLOCK_S, Health


def test_each_failure_in_a_row_doubles_the_block_up_to_the_longest() -> None:
    health, now, blocks = Health(), 100.0, []
    for _ in range(2000):  # also a replica that fails for hours
        health.failed(now)
        blocks.append(health.blocked_until - now)
        now = health.blocked_until
    assert blocks[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert (blocks[0], blocks[-1]) == (FIRST_BLOCK_S, LONGEST_BLOCK_S)


def test_requests_that_fail_together_are_one_failure() -> None:
    health = Health()
    for _ in range(8):
        health.failed(10.0)
    assert health.blocked_until == 10.5


def test_after_a_block_one_request_is_tried_at_a_time() -> None:
    health = Health()
    health.failed(0.0)
    assert health.blocked_until == 0.5
    health.sent("trial")
    assert health.blocked_until > 1e9
    health.ended("older")  # in flight since before the failure
    assert health.blocked_until > 1e9
    health.ended("trial")  # its client left: it said nothing of the replica
    assert health.blocked_until <= 0.5
    health.sent("next")
    assert health.blocked_until > 1e9


def test_an_answer_ends_the_trial_and_the_row_of_failures() -> None:
    health = Health()
    health.failed(0.0)
    health.failed(0.5)
    health.sent("trial")
    assert health.answered(2.0)
    assert health.blocked_until <= 2.0
    health.sent("a")
    health.sent("b")  # as many as it has slots
    assert health.blocked_until <= 2.0
    assert not health.answered(3.0)  # nothing has changed
    health.failed(4.0)
    assert health.blocked_until == 4.5


def test_a_failed_trial_is_the_next_block() -> None:
    health = Health()
    health.failed(0.0)
    health.sent("trial")
    health.failed(1.0)
    assert health.blocked_until == 2.0
    health.ended("trial")
    assert health.blocked_until == 2.0


def test_an_answer_during_a_block_was_sent_before_it_and_ends_nothing() -> None:
    health = Health()
    health.failed(0.0)
    assert not health.answered(0.4)
    assert health.blocked_until == 0.5


def test_a_trusted_replica_has_nothing_to_end() -> None:
    health = Health()
    health.sent("a")
    assert not health.answered(1.0)
    health.ended("a")
    assert health.blocked_until == 0.0


def test_a_replica_that_wasted_much_time_is_left_alone_for_as_long() -> None:
    health = Health()
    health.failed(0.0, at_least_s=20.0)
    assert health.blocked_until == 20.0
    health.sent("trial")
    health.failed(40.0)
    assert health.blocked_until == 55.0
