"""What tests of the scaling law look at: an endpoint whose demand a test turns."""

from __future__ import annotations

from dataclasses import replace

from headrace.policy.scaling import Observation


def seen(now: float, rate: float, **more: object) -> Observation:
    """An endpoint of up to 4 chunks of 100 at which a request has just arrived."""
    quiet = Observation(
        now=now,
        chunk=100,
        slots=1,
        min_chunks=1,
        max_chunks=4,
        scale_to_zero=False,
        ready=1,
        pending=0,
        draining=0,
        offered_fast=rate,
        offered_slow=rate,
        history_s=now - 1000,
        backlog_work=0,
        queued=0,
        oldest_wait_s=0,
        in_flight=0,
        last_arrival_age_s=0,
        metrics_age_s=0.5,
    )
    return replace(quiet, **more)  # type: ignore[arg-type]
