"""What an endpoint core counts for the controller. Counters are since the core was made.

What counts as offered work: every request once, at its arrival, by its estimate, whether it is served, refused or
leaves; its settlement corrects the counter by (exact - estimate), so the counter can also go down, by a correction.
A request that never ran keeps its estimate: it was demand. A retry that the client marks as such is not demand again.
What a rate limit of the endpoint holds back is counted as rejected and as nothing else: no chunk would have served it.
"""

from __future__ import annotations

from headrace.policy.terms import Outcome


class Counters:
    """Fields as in ``terms.Observation``."""

    __slots__ = (
        "abandoned",
        "arrivals",
        "completed",
        "dispatched",
        "dispatched_work",
        "failed",
        "input_tokens",
        "offered_work",
        "output_tokens",
        "rejected",
        "rejected_work",
        "served_work",
    )

    def __init__(self) -> None:
        self.arrivals = self.dispatched = self.completed = self.rejected = self.abandoned = self.failed = 0
        self.offered_work = self.dispatched_work = self.rejected_work = self.served_work = 0.0
        self.input_tokens = self.output_tokens = 0

    def arrived(self, work: float, *, retry: bool) -> None:
        """A request has come, with an estimate of its reference tokens."""
        self.arrivals += 1
        if not retry:
            self.offered_work += work

    def settled(self, estimated: float, exact: float, outcome: Outcome) -> None:
        """A dispatched request has ended, with these reference tokens. Its tokens are counted where they are seen."""
        self.offered_work += exact - estimated
        self.served_work += exact
        if outcome in ("ok", "refused"):
            self.completed += 1
        elif outcome == "client_gone":
            self.abandoned += 1
        else:
            self.failed += 1
