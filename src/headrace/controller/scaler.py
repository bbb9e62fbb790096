"""The live driver of the scaling law: tells its observer what gateways report, asks the law, and keeps the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Endpoint, Entity, Options
from headrace.controller.gateways import Gateways
from headrace.controller.lifecycle import COMING, Phase, Replica
from headrace.decisions.writer import DecisionLog
from headrace.gateway.snapshot import EntityTick
from headrace.policy.observing import Bought, Chunks, Memory, Observer
from headrace.policy.outlook import Outlook, outlook
from headrace.policy.scaling import Decision, Knobs, State, decide, windows
from headrace.policy.succession import memory_of_heir, state_of_heir


def knobs_of(defaults: ScalingConfig, options: Options) -> Knobs:
    """The endpoint's own, else the server's, else the law's."""
    given = {
        name: float(value)
        for source in (defaults, options.scaling)
        for name in ScalingConfig.__struct_fields__
        if (value := getattr(source, name)) is not None
    }
    return replace(Knobs(), autoscaling=options.autoscaling, **given)


class Scaler:
    """Scaling of one served entity. ``now`` is in seconds, monotonic."""

    def __init__(self, entity_id: str, now: float, record: DecisionLog | None = None) -> None:
        self.entity = entity_id
        self.outlook: Outlook | None = None
        """Of the last decision; None before the first."""
        self._record = record
        self._state = State()
        self._observer = Observer(now)

    def remembered(self) -> tuple[Memory, State]:
        """For the decision log; see ``decisions.writer.Subject``."""
        return self._observer.memory(), self._state

    def slept(self, now: float, knobs: Knobs) -> None:
        """It was at zero before this one began, so it has been idle for long enough already."""
        self._observer = Observer.restored(Memory(since=now - knobs.idle_to_zero_s - 1.0))

    def take_over(self, before: Scaler, sold: Entity, entity: Entity, knobs: Knobs, now: float) -> None:
        """The traffic of ``sold``, which ``before`` scales, goes to ``entity``, which this one does, from now on."""
        _, window_s = windows(knobs, float(entity.chunk), entity.model.slots)
        memory, state = before.remembered()
        self._observer = Observer.restored(memory_of_heir(memory, now, window_s))
        self._state = state_of_heir(state, float(sold.chunk), float(entity.chunk))
        if self._record is not None:
            self._record.forget(self.entity)

    def sample(self, gateway: str, counters: EntityTick, now: float) -> None:
        """A gateway reported."""
        if self._record is not None:
            self._record.watch(self)
            self._record.report(self.entity, now, gateway, counters)
        self._observer.report(now, gateway, counters)

    def decide(
        self,
        endpoint: Endpoint,
        entity: Entity,
        replicas: Sequence[Replica],
        gateways: Gateways,
        knobs: Knobs,
        now: float,
    ) -> Decision:
        """How many chunks the entity should have by its terms. ``replicas``: of its endpoint."""
        if self._record is not None:
            self._record.watch(self)
        bought, chunks = _bought(entity), _chunks(entity, replicas)
        connected, age_s = gateways.connected(), gateways.metrics_age_s(now)
        observation = self._observer.observe(now, bought, chunks, knobs, connected=connected, metrics_age_s=age_s)
        decision = decide(observation, knobs, self._state)
        self._state = decision.state
        self.outlook = outlook(observation, knobs, decision)
        if self._record is not None:
            self._record.decided(
                self.entity,
                (endpoint.name, entity.name),
                bought,
                knobs,
                chunks,
                connected=connected,
                metrics_age_s=age_s,
                now=now,
                decision=decision,
            )
        return decision


def _bought(entity: Entity) -> Bought:
    return Bought(
        chunk=float(entity.chunk),
        slots=entity.model.slots,
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        scale_to_zero=entity.scale_to_zero,
    )


def _chunks(entity: Entity, replicas: Sequence[Replica]) -> Chunks:
    phases = [replica.phase for replica in replicas if replica.runs_as == entity.runs_as]
    return Chunks(
        ready=phases.count(Phase.READY),
        pending=sum(phase in COMING for phase in phases),
        draining=phases.count(Phase.DRAINING),
    )
