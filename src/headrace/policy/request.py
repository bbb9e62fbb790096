"""A request as an endpoint's core keeps it."""

from __future__ import annotations

from headrace.policy.routing import Load
from headrace.policy.terms import Ask
from headrace.policy.waiting import Waiting
from headrace.policy.work import Weights


class Request(Waiting, kw_only=True, eq=False):
    """A request from its arrival to its end. It is weighed by the terms under which it arrived."""

    ask: Ask
    weights: Weights
    input_tokens: int
    """Best known."""
    range_had_room: bool = False
    """The limiter would have come to it before its deadline, had a slot always been free."""
    reserved: float = 0.0
    """Charged for it so far, top-ups included; not zero in the queue only after the loss of its replica."""
    output_tokens: int = 0
    """Streamed so far."""
    load: Load | None = None
