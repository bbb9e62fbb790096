"""What a capacity search says in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from headrace.bench.capacity.evidence import ALPHA, Told, evidence, usable, verdict
from headrace.bench.capacity.protocol import Phase
from headrace.bench.capacity.statistics import Verdict, share_bounds

Limit = Literal["server", "latency", "range", "client", "bound", "budget"]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One probe. Of several criteria, the one that is furthest below its target."""

    phase: Phase
    rate: float
    """Requests/s; in a closed loop, those that it came to."""
    users: int | None
    attainment: float
    interval: tuple[float, float]
    """Two-sided 95%, after the design effect."""
    n: int
    """Requests judged."""
    design_effect: float
    drift: float
    """Share of arrivals that stayed in the backlog."""
    verdict: Verdict
    invalid: tuple[str, ...] = ()
    limited: bool = False


class TokenRates(msgspec.Struct, frozen=True):
    """Tokens/s."""

    input: float
    output: float
    reference: float | None
    """None where the weights of the model are not known."""

    @property
    def both(self) -> float:
        return self.input + self.output


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    verdict: Verdict
    """PASS: ``confirmed`` is held; FAIL: no rate is; UNRESOLVED: nothing was confirmed, ``interval`` is how far it
    came."""
    limit: Limit
    """What kept a higher rate from being confirmed."""
    capacity: float | None
    """Point estimate, requests/s. None where the server's own was not reached (``limit`` bound or range) or is none."""
    interval: tuple[float, float] | None
    """Holds the capacity with 95% probability."""
    precise: bool
    """The interval is as narrow as was asked for."""
    confirmed: float | None
    """Rate that passed in replicates of its own."""
    cliff: bool
    """Just above the capacity nearly every request fails: leave more headroom than the interval."""
    reason: str
    findings: tuple[str, ...]
    curve: tuple[Point, ...]
    """In the order of the probes."""
    requests: int
    seconds: float
    """What the search cost."""
    input_tokens: float
    output_tokens: float
    """Mean of a request."""
    work: float | None
    """Mean reference tokens of a request."""

    def tokens(self, rate: float) -> TokenRates:
        """At ``rate`` requests/s."""
        return TokenRates(
            rate * self.input_tokens, rate * self.output_tokens, None if self.work is None else rate * self.work
        )


def curve(told: Sequence[Told], targets: Sequence[float]) -> tuple[Point, ...]:
    among = usable(told)
    return tuple(_point(one, targets, among) for one in told if one[1].n)


def _point(one: Told, targets: Sequence[float], among: Sequence[Told]) -> Point:
    probe, result = one
    open_loop = any(each is one for each in among)
    pool = among if open_loop else [one]
    row = next(number for number, each in enumerate(pool) if each is one)
    worst = min(range(len(targets)), key=lambda c: result.counts[c].share - targets[c])
    data = evidence(pool, worst, targets[worst])
    good, bad = float(data.good[row]), float(data.bad[row])
    return Point(
        phase=probe.phase,
        rate=result.throughput if probe.rate is None else probe.rate,
        users=probe.users,
        attainment=result.counts[worst].share,
        interval=share_bounds(good, good + bad, 0.025),
        n=result.n,
        design_effect=float(data.design_effect[row]),
        drift=result.drift,
        verdict=verdict([one], targets, among=pool, alpha=ALPHA),
        invalid=result.invalid,
        limited=result.limited,
    )
