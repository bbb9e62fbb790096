"""The live driver of the scaling law: gathers what it looks at, keeps what it remembers, and asks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Entity
from headrace.controller.gateways import Gateways
from headrace.controller.lifecycle import COMING, Phase, Replica
from headrace.gateway.snapshot import EntityTick
from headrace.policy.demand import Demand
from headrace.policy.scaling import Decision, Knobs, Observation, State, decide, windows


def knobs_of(defaults: ScalingConfig, endpoint: ScalingConfig) -> Knobs:
    """The endpoint's own, else the server's, else the law's."""
    given = {
        name: value
        for source in (defaults, endpoint)
        for name in ScalingConfig.__struct_fields__
        if (value := getattr(source, name)) is not None
    }
    return replace(Knobs(), **given)


class Scaler:
    """Scaling of one served entity. ``now`` is in seconds, monotonic."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._state = State()
        self._demand: Demand | None = None
        self._window_s = 0.0

    def sample(self, gateway: str, counters: EntityTick, now: float) -> None:
        """A gateway reported. What came before the first decision is not needed."""
        if self._demand is not None:
            self._demand.sample(now, gateway, counters.offered_work)

    def decide(
        self, entity: Entity, replicas: Sequence[Replica], gateways: Gateways, knobs: Knobs, now: float
    ) -> Decision:
        """How many chunks the entity should have by its terms. ``replicas``: of its endpoint."""
        observation = self._observe(entity, replicas, gateways, knobs, now)
        decision = decide(observation, knobs, self._state)
        self._state = decision.state
        return decision

    def _observe(
        self, entity: Entity, replicas: Sequence[Replica], gateways: Gateways, knobs: Knobs, now: float
    ) -> Observation:
        fast_s, slow_s = windows(knobs, entity.chunk, entity.model.slots)
        if self._demand is None or slow_s > self._window_s:
            self._demand, self._window_s = Demand(slow_s), slow_s
        phases = [replica.phase for replica in replicas if replica.runs_as == entity.runs_as]
        gauges = gateways.gauges(entity.id)
        age = gateways.last_arrival_age_s(entity.id, now)
        return Observation(
            now=now,
            chunk=float(entity.chunk),
            slots=entity.model.slots,
            min_chunks=entity.min_chunks,
            max_chunks=entity.max_chunks,
            scale_to_zero=entity.scale_to_zero,
            ready=phases.count(Phase.READY),
            pending=sum(phase in COMING for phase in phases),
            draining=phases.count(Phase.DRAINING),
            offered_fast=self._demand.rate(now, fast_s),
            offered_slow=self._demand.rate(now, slow_s),
            history_s=self._demand.history_s(now),
            backlog_work=gauges.queued_work,
            queued=gauges.queued,
            oldest_wait_s=gauges.oldest_wait_s,
            in_flight=gauges.in_flight,
            last_arrival_age_s=now - self._since if age is None else age,
            metrics_age_s=gateways.metrics_age_s(now),
            requested=age is not None,
        )
