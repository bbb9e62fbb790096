"""Kubernetes' HorizontalPodAutoscaler on requests per replica: the law of kube-controller-manager, autoscaling/v2.

As in kubernetes/kubernetes ``pkg/controller/podautoscaler`` (``replica_calculator.go`` for a metric of type External or
Object with an AverageValue, ``horizontal.go`` for stabilisation and policies) with the defaults of autoscaling/v2,
which have been the same since 1.23:

    desired = replicas                     where |ongoing / (target * replicas) - 1| <= 0.1
            = ceil(ongoing / target)       otherwise

every 15 s; down only to the highest recommendation of the last 300 s; up by at most 4 pods or 100% in 15 s, whichever
is more. ``ongoing`` are requests in flight and waiting, as the gateway counts them at that moment: a real one comes
through a metrics pipeline and is older.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from headrace.planner.laws import Verdict
from headrace.policy.scaling import Knobs, Observation

SYNC_S = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_S = 300.0
UP_PERIOD_S = 15.0
UP_PODS = 4
UP_FACTOR = 2.0


class Hpa:
    """``target``: requests per replica. The other arguments are the fields of ``spec.behavior``, or of the metric's
    query."""

    def __init__(self, target: float, *, down_window_s: float = DOWN_WINDOW_S, average_s: float = 0.0) -> None:
        """``average_s``: over how long the metric is averaged; 0: as it is at the moment."""
        self.knobs = Knobs()
        self._target = target
        self._down_window_s = down_window_s
        self._average_s = average_s
        self._samples: deque[tuple[float, int]] = deque()
        self._recommended: deque[tuple[float, int]] = deque()
        self._ups: deque[tuple[float, int]] = deque()
        """(when, pods added) within the period of the policies."""
        self._synced_at: float | None = None
        self._replicas: int | None = None

    def decide(self, seen: Observation) -> Verdict:
        now = seen.now
        replicas = self._replicas if self._replicas is not None else seen.ready + seen.pending
        ongoing = self._metric(now, seen.in_flight + seen.queued)
        if self._synced_at is None or now >= self._synced_at + SYNC_S:
            self._synced_at = now
            replicas = self._sync(now, replicas, ongoing, seen)
        self._replicas = replicas
        inputs = {"target": self._target}
        return Verdict(replicas, f"{ongoing:.1f} requests, target {self._target:.1f} a replica", inputs)

    def _metric(self, now: float, ongoing: int) -> float:
        self._samples.append((now, ongoing))
        while self._samples[0][0] < now - self._average_s:
            self._samples.popleft()
        return sum(count for _, count in self._samples) / len(self._samples)

    def _sync(self, now: float, replicas: int, ongoing: float, seen: Observation) -> int:
        lowest, highest = max(1, seen.min_chunks), seen.max_chunks
        desired = replicas
        if replicas == 0 or abs(ongoing / (self._target * replicas) - 1) > TOLERANCE:
            desired = ceil(ongoing / self._target)
        # Down: the highest recommendation of the window stands; before the first there was the count as it was found.
        if not self._recommended:
            self._recommended.append((now, replicas))
        self._recommended.append((now, desired))
        while self._recommended[0][0] < now - self._down_window_s:
            self._recommended.popleft()
        if desired < replicas:
            desired = min(replicas, max(count for _, count in self._recommended))
        # Up: by the policy that allows more, counted from the replicas at the start of its period.
        while self._ups and self._ups[0][0] <= now - UP_PERIOD_S:
            self._ups.popleft()
        if desired > replicas:
            at_start = replicas - sum(added for _, added in self._ups)
            desired = min(desired, max(at_start + UP_PODS, ceil(at_start * UP_FACTOR)))
            desired = max(desired, replicas)
        desired = min(max(desired, lowest), highest)
        if desired > replicas:
            self._ups.append((now, desired - replicas))
        return desired
