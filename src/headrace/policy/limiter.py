"""The rate limit of a range: GCRA with debt, over work.

The generic cell rate algorithm keeps one number, the theoretical arrival time (TAT): the instant at which all work
admitted so far would be done at the rate. Work that costs ``w`` is admitted at ``t`` when ``TAT - t + w / rate`` is at
most ``burst / rate``. Here a charge may also be made without a test (a stream that outruns its reservation), which
moves the TAT beyond what a test would have allowed: debt, carried until the rate has paid for it.

Bound: right after a reservation the debt is at most ``burst``; later charges belong to streams that were in flight
then. So the work charged up to any time ``t`` is at most ``rate * t + burst`` and the sum, over the streams in flight
at the last reservation, of what each may still use beyond its reservation.
"""

from __future__ import annotations

CLOCK_SLACK_S = 1e-6
"""Seconds by which a test may come early, so that waking at the very instant that ``ready_at`` named is never refused
for a rounding of floats. It moves the test, not the charge, so it does not add up."""


class Limiter:
    """Work in reference tokens against a rate in reference tokens/s. Times are seconds on any one clock."""

    __slots__ = ("_tat", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if rate <= 0 or burst <= 0:
            raise ValueError(f"rate and burst must be positive, not {rate} and {burst}")
        self.rate = rate
        self.burst = burst
        self._tat = now

    def configure(self, now: float, rate: float, burst: float) -> None:
        """Change the terms. The debt stays, in reference tokens; it is paid at the new rate from now on."""
        if rate <= 0 or burst <= 0:
            raise ValueError(f"rate and burst must be positive, not {rate} and {burst}")
        debt = self.debt(now)
        self.rate = rate
        self.burst = burst
        self._tat = now + debt / rate

    def debt(self, now: float) -> float:
        """Reference tokens by which admitted work is ahead of the rate; above ``burst`` nothing is admitted."""
        return (self._tat - now) * self.rate if self._tat > now else 0.0

    def ready_at(self, now: float, work: float, ahead: float = 0.0) -> float:
        """The instant from which ``reserve(work)`` succeeds if, but for ``ahead`` before it, nothing else is charged.

        Work larger than the burst is let through when there is no debt at all, as it could not be otherwise.
        """
        start = self._tat if self._tat > now else now
        return start + (ahead + (work if work < self.burst else self.burst) - self.burst) / self.rate

    def ready_in(self, now: float, work: float, ahead: float = 0.0) -> float:
        """Seconds from ``now`` to ``ready_at``; 0 where there is room already."""
        return max(0.0, self.ready_at(now, work, ahead) - now)

    def has_room(self, now: float, work: float) -> bool:
        return self.ready_at(now, work) <= now + CLOCK_SLACK_S

    def reserve(self, now: float, work: float) -> bool:
        """Charge ``work`` if there is room for it."""
        if not self.has_room(now, work):
            return False
        self.charge(now, work)
        return True

    def charge(self, now: float, work: float) -> None:
        """Charge ``work`` whether there is room or not: the top-up of a stream that was admitted."""
        start = self._tat if self._tat > now else now
        self._tat = start + work / self.rate

    def refund(self, now: float, work: float) -> None:
        """Give back ``work``. The balance never rises above the burst: a TAT in the past counts as ``now`` everywhere,
        so with no debt left the rest is lost."""
        self._tat -= work / self.rate

    def settle(self, now: float, reserved: float, exact: float) -> None:
        """Replace what was charged for a request by what it turned out to be."""
        if exact >= reserved:
            self.charge(now, exact - reserved)
        else:
            self.refund(now, reserved - exact)
