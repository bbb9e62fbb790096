"""How many chunks an endpoint should have: one function from what is seen to a number, with its reason in words.

The same observation, knobs and state give the same decision; an event stores them (``Decision.inputs``) and ``replay``
decides again from what was stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Any

from headrace.policy.work import REFERENCE_WORK

LAW = 2
"""Number of this law, for what is recorded of it: another one as soon as the same inputs may give another decision or
other words. 1: all before they had numbers."""

SERVICE_TIMES_IN_FAST_WINDOW = 3
"""The fast window holds at least so many service times: in a shorter one a single long request is a jump."""

SHORTEST_WINDOW_S = 5.0
"""Ten reports of a gateway."""

JUMP_DEVIATIONS = 2.5
"""What a single service time brings counts less so many standard deviations. So a step of demand is seen before it has
filled the fast window, and it takes a dozen requests to make one."""

DOWN_HEADROOM_FACTOR = 2.0
"""A chunk is given back only when fewer suffice with twice the headroom. The gap between the two thresholds is what
noise must cross to make the count swing."""

RISE_DEVIATIONS = 1.25
"""What the fast window saw counts less so many standard deviations, or every clump of requests were a rise."""

DOWN_DEVIATIONS = 2.5
"""A chunk is given back only when fewer suffice even if what came lately was less, by so many standard deviations, than
what is to be expected: a count that followed every quiet minute down would be back up in the next."""

ROUNDING = 1e-9
"""Chunks; what floats may add to a demand of exactly a whole number of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Settings of the scaling law."""

    fast_window_s: float | None = None
    """None: three service times of the reference request, and no less than 10 s."""
    slow_window_s: float = 150.0
    """A lull of a minute is not the end of a load, and chance makes up little of so long a mean."""
    headroom: float = 0.1
    """Part of the demand to keep free: arrivals are random, and the chunk was measured without that."""
    down_window_s: float = 30.0
    """How long fewer chunks must have sufficed before any is given back: about what a start costs. The slow window has
    carried the demand for longer by then."""
    wait_target_s: float = 10.0
    """How long queued work may wait before it asks for another chunk."""
    idle_to_zero_s: float = 300.0
    """Time without a request before the last chunk is given back, where the range begins at zero."""
    freeze_after_s: float = 10.0
    """Age of the last report after which nothing is changed: many times the interval of reports."""
    autoscaling: bool = True
    """Off: there are as many chunks as the range begins with, whatever is offered."""


def windows(knobs: Knobs, chunk: float, slots: int) -> tuple[float, float]:
    """Seconds of the fast and the slow window of demand. With ``slots`` requests in flight each takes that much longer
    than its share of the chunk."""
    service_s = slots * REFERENCE_WORK / chunk
    fast = knobs.fast_window_s
    if fast is None:
        fast = max(SERVICE_TIMES_IN_FAST_WINDOW * service_s, 10.0)
    return fast, max(fast, knobs.slow_window_s)


def short_window(fast_s: float) -> float:
    """Seconds of the window in which a jump shows: a service time, where the fast window is three of them."""
    return min(fast_s, max(fast_s / SERVICE_TIMES_IN_FAST_WINDOW, SHORTEST_WINDOW_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What is seen of an endpoint. Work is in reference tokens, rates in reference tokens/s, times in seconds."""

    now: float
    chunk: float
    slots: int
    min_chunks: int
    max_chunks: int
    scale_to_zero: bool
    ready: int
    """Chunks that serve."""
    pending: int
    """Chunks that are being started."""
    draining: int
    offered_fast: float
    offered_slow: float
    """Over the windows of ``windows``."""
    history_s: float
    """For how long demand has been watched."""
    backlog_work: float
    """Queued, at all gateways."""
    queued: int
    oldest_wait_s: float
    in_flight: int
    last_arrival_age_s: float
    """Since the last arrival or, without one, since the endpoint was made."""
    metrics_age_s: float | None
    """Since the last report of a gateway; None: there was none."""
    requested: bool = True
    """Whether ``last_arrival_age_s`` is that of a request."""
    request_work: float = 0.0
    """Mean work of the requests of the slow window, reference tokens; 0: there were none, or it was not recorded."""
    offered_short: float = 0.0
    """Over ``short_window``; 0: nothing, or it was not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the law remembers between decisions."""

    target: int | None = None
    """The last decision; None before the first."""
    decided_at: float | None = None
    watching_since: float | None = None
    """Start of the time without a gap over which ``enough`` is known."""
    enough: tuple[tuple[float, int], ...] = ()
    """(time, chunks that would have been enough) in the down window; only those that no later one exceeds."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The number of chunks that an endpoint should have now, starting and ready together."""

    chunks: int
    reason: str
    """In words, with its figures."""
    state: State
    """For the next decision."""
    inputs: dict[str, Any]
    """JSON: ``replay`` makes the same decision of it."""


def decide(obs: Observation, knobs: Knobs, state: State) -> Decision:
    """The scaling law (design, section 3.4). Read it from top to bottom; the first rule that applies decides."""
    before = obs.ready + obs.pending if state.target is None else state.target
    # Zero chunks only where the range begins there and the endpoint may sleep: otherwise one stays.
    lowest = obs.min_chunks if obs.min_chunks > 0 or obs.scale_to_zero else 1
    held = _clamp(before, lowest, obs.max_chunks)

    def decided(chunks: int, why: str, remember: State) -> Decision:
        change = _chunks(chunks) + " kept" if chunks == before else f"{before} -> {_chunks(chunks)}"
        inputs = {"observation": _fields(obs), "knobs": _fields(knobs), "state": _fields(state)}
        return Decision(chunks, f"{change}: {why}", remember, inputs)

    # Switched off, the count is the owner's to set; what was seen until now says nothing of the day it is on again.
    if not knobs.autoscaling:
        fixed = max(lowest, 1)
        why = "autoscaling is off, so the count is the minimum of the range"
        return decided(fixed, why, State(target=fixed, decided_at=obs.now))

    # Without news the last decision stands, and what was seen before the silence says nothing of the time in it.
    if obs.metrics_age_s is None or obs.metrics_age_s > knobs.freeze_after_s:
        why = "no gateway has reported " + ("yet" if obs.metrics_age_s is None else f"for {obs.metrics_age_s:.0f} s")
        if held != before:
            end = "begins" if held > before else "ends"
            why = f"the range {end} at {_chunks(held)}; {why}"
        return decided(held, why, State(target=held, decided_at=obs.now))

    # The shorter a window, the sooner it sees a rise, and the more of what it sees is chance, which is taken off. The
    # slow one carries a lull.
    fast_s, slow_s = windows(knobs, obs.chunk, obs.slots)
    short_s = short_window(fast_s)
    risen = obs.offered_fast - RISE_DEVIATIONS * _chance(obs.offered_fast, obs.request_work, fast_s)
    jumped = obs.offered_short - JUMP_DEVIATIONS * _chance(obs.offered_short, obs.request_work, short_s)
    demand, seen_s = max((jumped, short_s), (risen, fast_s), (obs.offered_slow, slow_s))
    # What runs or starts works off the queue with what demand leaves of it. If that takes longer than the wait target,
    # the rest asks for more, but for no more chunks than those that wait would fill. What chance brings of a steady
    # demand within a service time is gone again before a chunk could start.
    spare = max(0.0, (obs.ready + obs.pending) * obs.chunk - demand)
    backlog = obs.backlog_work - _chance(demand, obs.request_work, short_s) * short_s
    catch_up = max(0.0, backlog / knobs.wait_target_s - spare)
    catch_up = min(catch_up, obs.queued / obs.slots * obs.chunk)
    awake = obs.queued > 0 or obs.in_flight > 0 or obs.last_arrival_age_s < knobs.idle_to_zero_s
    floor = max(lowest, 1) if awake else lowest
    needed = _clamp(_whole((demand * (1 + knobs.headroom) + catch_up) / obs.chunk), floor, obs.max_chunks)
    # Down only if fewer suffice with twice the headroom, and also if chance has made the slow window look quiet.
    unlucky = obs.offered_slow + DOWN_DEVIATIONS * _chance(obs.offered_slow, obs.request_work, slow_s)
    cautious = max(demand * (1 + DOWN_HEADROOM_FACTOR * knobs.headroom), unlucky * (1 + knobs.headroom)) + catch_up
    enough = _clamp(_whole(cautious / obs.chunk), floor, obs.max_chunks)
    watched = _watch(state, obs.now, enough, knobs)
    least = "at least " if seen_s < slow_s else ""  # chance was taken off
    offered = f"{least}{demand:,.0f} reference tokens/s offered over the last {seen_s:.0f} s"
    seen = f"{offered}, {_backlog_s(obs):.1f} s of backlog"

    def settled(chunks: int, why: str) -> Decision:
        return decided(chunks, why, replace(watched, target=chunks, decided_at=obs.now))

    # Idle for long enough is idle: what the windows still remember of the last request keeps nothing up.
    if not awake and lowest == 0:
        return settled(0, f"no request for {obs.last_arrival_age_s:.0f} s")

    # Another range applies at once, and so does a first request. Without one the idle time is that of a new endpoint
    # or a new watch, and the chunk is there for the first request.
    if held < floor:
        requested = obs.queued > 0 or obs.in_flight > 0 or obs.requested
        kept = f"kept ready until it has been idle for {knobs.idle_to_zero_s:.0f} s"
        return settled(needed, f"{'an endpoint at zero has a request' if requested else kept}; {seen}")
    if held != before and needed <= held:
        return settled(held, f"the range is {_range(obs)}; {seen}")

    # Up at once: a chunk takes its time to start, and the target counts those that are starting.
    if needed > held:
        return settled(needed, seen)

    # Down only to what was enough at every moment of the window, and only by what has been watched for so long.
    highest = watched.enough[0][1]
    window_seen = watched.watching_since is not None and obs.now - watched.watching_since >= knobs.down_window_s
    if highest < held and window_seen and obs.history_s >= fast_s:
        return settled(highest, f"{seen}; {_chunks(highest)} would have been enough for {knobs.down_window_s:.0f} s")
    return settled(held, seen)


def replay(inputs: dict[str, Any]) -> Decision:
    """Decide again from the inputs that an event stored. Raises TypeError where they are not such inputs."""
    state = dict(inputs["state"])
    state["enough"] = tuple((at, chunks) for at, chunks in state["enough"])
    return decide(Observation(**inputs["observation"]), Knobs(**inputs["knobs"]), State(**state))


def _chance(rate: float, request_work: float, window_s: float) -> float:
    """Standard deviation of a rate (reference tokens/s) that was seen over a window of ``window_s`` seconds.

    Requests that come at random, each of a work that varies as much as its mean, bring an amount into it with the
    variance 2 * rate * window * mean work (compound Poisson).
    """
    return sqrt(2 * max(0.0, rate) * request_work / window_s)


def _fields(given: Observation | Knobs | State) -> dict[str, Any]:
    """As ``asdict``, which copies to any depth what cannot change and takes ten times as long."""
    return {name: getattr(given, name) for name in given.__slots__}


def _watch(state: State, now: float, enough: int, knobs: Knobs) -> State:
    """``state`` with this moment's ``enough``: a sliding-window maximum, the largest first, within the down window."""
    gap = state.decided_at is None or now - state.decided_at > knobs.freeze_after_s
    if gap or state.watching_since is None:
        return State(watching_since=now, enough=((now, enough),))
    kept = [entry for entry in state.enough if entry[1] > enough and entry[0] > now - knobs.down_window_s]
    return State(watching_since=state.watching_since, enough=(*kept, (now, enough)))


def _whole(chunks: float) -> int:
    return ceil(chunks - ROUNDING)


def _clamp(chunks: int, lowest: int, highest: int) -> int:
    return min(max(chunks, lowest), highest)


def _chunks(count: int) -> str:
    return f"{count} chunk" if count == 1 else f"{count} chunks"


def _range(obs: Observation) -> str:
    if obs.min_chunks == obs.max_chunks:
        return _chunks(obs.max_chunks)
    return f"{obs.min_chunks} to {_chunks(obs.max_chunks)}"


def _backlog_s(obs: Observation) -> float:
    """Seconds that what is ready (one chunk, where none is) takes for the queue."""
    return obs.backlog_work / (max(1, obs.ready) * obs.chunk)
