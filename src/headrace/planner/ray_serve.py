"""Ray Serve's default autoscaling policy, by requests per replica.

As in ray-project/ray ``python/ray/serve/autoscaling_policy.py`` (Ray 2.60; ``replica_queue_length_autoscaling_policy``
and what ``_apply_autoscaling_config`` puts around it) with the defaults of ``AutoscalingConfig``: 2 ongoing requests a
replica, their mean over the last 30 s, up after 30 s of wanting to, down after 600 s, factors of 1:

    desired = ceil(running + factor * (ongoing / target - running))

and ``desired`` is what is wanted at the end of the delay, all of which must have wanted to move that way. ``ongoing``
are requests in flight and waiting. Ray decides ten times a second and the simulated controller once; the delays are the
same.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from headrace.planner.laws import Verdict
from headrace.policy.scaling import Knobs, Observation

TARGET = 2.0
LOOK_BACK_S = 30.0
UP_DELAY_S = 30.0
DOWN_DELAY_S = 600.0


class RayServe:
    """The arguments are fields of ``AutoscalingConfig``."""

    def __init__(
        self,
        target: float = TARGET,
        *,
        up_delay_s: float = UP_DELAY_S,
        down_delay_s: float = DOWN_DELAY_S,
        up_factor: float = 1.0,
        down_factor: float = 1.0,
    ) -> None:
        """``target``: of ongoing requests a replica."""
        self.knobs = Knobs()
        self._requests = target
        self._up_delay_s = up_delay_s
        self._down_delay_s = down_delay_s
        self._up_factor = up_factor
        self._down_factor = down_factor
        self._samples: deque[tuple[float, int]] = deque()
        self._target: int | None = None
        """Replicas."""
        self._since: tuple[int, float] | None = None
        """Which way it has wanted to move (1 up, -1 down), and since when."""

    def decide(self, seen: Observation) -> Verdict:
        now, running = seen.now, seen.ready
        before = self._target if self._target is not None else seen.ready + seen.pending
        self._samples.append((now, seen.in_flight + seen.queued))
        while self._samples[0][0] <= now - LOOK_BACK_S:
            self._samples.popleft()
        ongoing = sum(count for _, count in self._samples) / len(self._samples)
        if running == 0:
            # Nothing runs: a request is reason enough for the first replica, without a delay.
            self._target = max(ceil(self._up_factor), before) if ongoing else before
        else:
            desired = min(max(self._desired(ongoing, running), seen.min_chunks), seen.max_chunks)
            self._target = self._after_delay(now, before, desired)
        inputs = {"target": self._requests}
        return Verdict(self._target, f"{ongoing:.1f} requests, target {self._requests:.1f} a replica", inputs)

    def _desired(self, ongoing: float, running: int) -> int:
        exact = ongoing / self._requests
        factor = self._up_factor if exact > running else self._down_factor
        scaled = ceil(running + factor * (exact - running))
        # A factor below 1 must not keep one replica too many for ever.
        return scaled - 1 if ceil(exact) < running and scaled == running else scaled

    def _after_delay(self, now: float, before: int, desired: int) -> int:
        if desired == before:
            self._since = None
            return before
        way = 1 if desired > before else -1
        if self._since is None or self._since[0] != way:
            self._since = (way, now)
        if now - self._since[1] < (self._up_delay_s if way > 0 else self._down_delay_s):
            return before
        self._since = None
        # Zero only from one.
        return desired if before == 1 else max(1, desired)
