"""A service level objective: what a good answer is, and how many of them must be good."""

from __future__ import annotations

import msgspec


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """A request is good when it is answered in full and within each limit that is given, all timed from when it was
    due."""

    attainment: float
    """The part of requests that must be good, such as 0.99."""
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class Slo(msgspec.Struct, frozen=True):
    """All criteria must hold. ``ttft_p99=2s,tpot_p99=100ms`` is one criterion with both limits, at 0.99: a request is
    good when it meets both."""

    criteria: tuple[Criterion, ...]
