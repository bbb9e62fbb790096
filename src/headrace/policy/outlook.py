"""What follows a scaling decision if nothing happens: whether the count may fall, and when at the earliest.

For people who look at an endpoint and ask why it still has its chunks. Decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.policy.scaling import Decision, Knobs, Observation, windows

Standing = Literal["steady", "stabilising", "idle", "frozen", "off"]
"""``steady``: what there is, is needed. ``stabilising``: fewer chunks would do, and the down window holds the rest.
``idle``: without a request the last chunk goes. ``frozen``: no gateway reports, so nothing changes. ``off``:
autoscaling is."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """``until``: seconds on the clock of the observation; None where no time is known."""

    standing: Standing
    until: float | None = None


def outlook(obs: Observation, knobs: Knobs, decision: Decision) -> Outlook:
    """Of what ``decide`` made of this observation. ``until`` holds if what is seen stays as it is."""
    if not knobs.autoscaling:
        return Outlook("off")
    if obs.metrics_age_s is None or obs.metrics_age_s > knobs.freeze_after_s:
        return Outlook("frozen")
    falls = _falls_at(obs, knobs, decision)
    sleeps = _sleeps_at(obs, knobs, decision)
    if sleeps is not None and (falls is None or sleeps <= falls):
        return Outlook("idle", sleeps)
    return Outlook("steady") if falls is None else Outlook("stabilising", falls)


def _falls_at(obs: Observation, knobs: Knobs, decision: Decision) -> float | None:
    """When every moment of the down window needed less than there is; None where this moment needs it."""
    state, count = decision.state, decision.chunks
    if state.watching_since is None or not state.enough or state.enough[-1][1] >= count:
        return None
    held_by = [at for at, enough in state.enough if enough >= count]
    seen_for_a_window = max([state.watching_since, *held_by]) + knobs.down_window_s
    fast_s, _ = windows(knobs, obs.chunk, obs.slots)
    return max(seen_for_a_window, obs.now - obs.history_s + fast_s)


def _sleeps_at(obs: Observation, knobs: Knobs, decision: Decision) -> float | None:
    """When it has been idle for long enough; None where it may not go to zero, or has a request."""
    may = obs.min_chunks == 0 and obs.scale_to_zero and decision.chunks > 0
    if not may or obs.queued > 0 or obs.in_flight > 0:
        return None
    return obs.now - obs.last_arrival_age_s + knobs.idle_to_zero_s
