"""What a scaling law is to the simulator, Headrace's own, and a fixed number of chunks."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from headrace.policy.scaling import Knobs, Observation, State, decide


class Verdict(NamedTuple):
    """How many chunks there should be, starting and ready together, and why."""

    chunks: int
    reason: str
    inputs: dict[str, Any]


class Law(Protocol):
    """Of one served entity in one simulation: it may remember."""

    knobs: Knobs
    """Over which windows demand is looked at."""

    def decide(self, seen: Observation) -> Verdict: ...


class Headrace:
    """``policy.scaling``."""

    def __init__(self, knobs: Knobs = Knobs()) -> None:  # noqa: B008 - frozen
        self.knobs = knobs
        self._state = State()

    def decide(self, seen: Observation) -> Verdict:
        decision = decide(seen, self.knobs, self._state)
        self._state = decision.state
        return Verdict(decision.chunks, decision.reason, decision.inputs)


class Fixed:
    """As many as somebody who knew the future would have bought for all of the time."""

    def __init__(self, chunks: int) -> None:
        self.knobs = Knobs()
        self._chunks = chunks

    def decide(self, seen: Observation) -> Verdict:
        return Verdict(self._chunks, "fixed", {})
