"""A request as an endpoint's core keeps it."""

from __future__ import annotations

from headrace.policy.routing import Load
from headrace.policy.terms import Ask
from headrace.policy.waiting import Waiting
from headrace.policy.work import Weights


class Request(Waiting):
    """A request from its arrival to its end. It is weighed by the terms under which it arrived."""

    __slots__ = ("ask", "input_tokens", "load", "output_tokens", "range_had_room", "reserved", "weights")

    def __init__(self, ask: Ask, work: float, arrived: float, weights: Weights) -> None:
        super().__init__(ask.rid, ask.key, ask.band, work, arrived, ask.weight)
        self.ask = ask
        self.weights = weights
        self.input_tokens = ask.input_tokens
        """Best known."""
        self.range_had_room = False
        """The limiter would have come to it before its deadline, had a slot always been free."""
        self.reserved = 0.0
        """Charged for it so far, top-ups included; not zero in the queue only after the loss of its replica."""
        self.output_tokens = 0
        """Streamed so far."""
        self.load: Load | None = None
