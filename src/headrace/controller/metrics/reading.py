"""One moment of the controller, taken in the event loop: values that nothing changes any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from headrace.controller.answers import AnswerCounts, Histogram, Latency
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.gateways import Totals
from headrace.controller.lifecycle import Phase
from headrace.controller.metrics.definitions import COUNTERS, DISTRIBUTIONS, GAUGES
from headrace.controller.metrics.subject import Subject

MOST_ENTITIES = 500
"""Served entities that are told of, those of the oldest endpoints first: each is more than 100 series."""
MOST_REPLICAS = 1000
UTILISATION_OVER_S = 60


@dataclass(frozen=True, slots=True)
class HistogramReading:
    operation: str
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """Not cumulative; one more than there are bounds."""
    sum: float


@dataclass(frozen=True, slots=True)
class EntityReading:
    """Values in the order of the definitions."""

    endpoint: str
    entity: str
    model: str
    model_version: str
    engine: str
    profile_status: str
    counters: tuple[float, ...]
    gauges: tuple[float, ...]
    statuses: dict[int, int]
    histograms: tuple[tuple[HistogramReading, ...], ...]
    """For each distribution, one of each operation."""


@dataclass(frozen=True, slots=True)
class ReplicaReading:
    endpoint: str
    entity: str
    replica: str
    slots: int
    in_flight: int
    outstanding_work: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one scrape tells."""

    entities: tuple[EntityReading, ...]
    replicas: tuple[ReplicaReading, ...]
    entities_dropped: int
    replicas_dropped: int
    endpoints: int
    gateways: int
    """Connected."""
    tick_age_s: float | None
    """Since the newest word of a gateway."""
    journals_failing: int
    """Gateways that cannot record usage."""


class Reader:
    """Reads one controller again and again, and sees to it that no counter goes down in its life.

    Counters are kept by name: a served entity that is replaced by another of its name goes on counting. The few that
    the gateways correct downwards stand still until they have grown beyond what was told.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._ids: dict[str, dict[str, dict[str, None]]] = {}
        """By endpoint id and name of the served entity: the ids that it has had, in order."""
        self._told: dict[tuple[str, str], tuple[float, ...]] = {}
        """Counters as they were told last."""

    def read(self, visible: Iterable[Endpoint]) -> Reading:
        """What there is to tell of these endpoints, and of the server."""
        controller = self._controller
        self._keep(controller.store.endpoints())
        endpoints = sorted(visible, key=lambda one: (one.created_ms, one.name))
        pairs = [(endpoint, entity) for endpoint in endpoints for entity in endpoint.current.entities]
        now = controller.clock.now()
        replicas = list(self._replicas(endpoints))
        return Reading(
            entities=tuple(self._entity(self.subject(*pair)) for pair in pairs[:MOST_ENTITIES]),
            replicas=tuple(replicas[:MOST_REPLICAS]),
            entities_dropped=max(0, len(pairs) - MOST_ENTITIES),
            replicas_dropped=max(0, len(replicas) - MOST_REPLICAS),
            endpoints=len(endpoints),
            gateways=len(controller.gateways.connected()),
            tick_age_s=controller.gateways.metrics_age_s(now),
            journals_failing=sum(journal.failure is not None for journal in controller.gateways.journals()),
        )

    def subject(self, endpoint: Endpoint, entity: Entity) -> Subject:
        """A served entity of an endpoint, now."""
        controller = self._controller
        ids = self._ids_of(endpoint, entity)
        mean = controller.series.mean(entity.id, UTILISATION_OVER_S)
        newest = controller.timeline.newest(endpoint.id).get(entity.id)
        return Subject(
            endpoint=endpoint,
            entity=entity,
            totals=_sum(controller.gateways.totals(one) for one in ids),
            answers=_join(controller.gateways.answers.of(one) for one in ids),
            gauges=controller.gateways.gauges(entity.id),
            chunks=controller.chunks(endpoint, entity),
            wanted=controller.reconciler.watches.of(entity.id).wanted,
            billed=newest.billed_chunks if newest is not None else 0,
            served_tokens_s=mean.reference_tokens_s if mean is not None else 0.0,
        )

    def _ids_of(self, endpoint: Endpoint, entity: Entity) -> Iterable[str]:
        ids = self._ids.setdefault(endpoint.id, {}).setdefault(entity.name, {})
        ids[entity.id] = None
        return ids

    def _entity(self, subject: Subject) -> EntityReading:
        endpoint, entity = subject.endpoint, subject.entity
        counters = tuple(float(counter.value(subject)) for counter in COUNTERS)
        told = self._told.get((endpoint.id, entity.name))
        if told is not None:
            counters = tuple(map(max, counters, told))
        self._told[endpoint.id, entity.name] = counters
        return EntityReading(
            endpoint=endpoint.name,
            entity=entity.name,
            model=entity.model.name,
            model_version=entity.model.version,
            engine=entity.model.engine,
            profile_status=entity.profile_status,
            counters=counters,
            gauges=tuple(float(gauge.value(subject)) for gauge in GAUGES),
            statuses=dict(subject.answers.statuses),
            histograms=tuple(histograms(subject, distribution.of) for distribution in DISTRIBUTIONS),
        )

    def _replicas(self, endpoints: Iterable[Endpoint]) -> Iterable[ReplicaReading]:
        """Those that may have requests."""
        controller = self._controller
        for endpoint in endpoints:
            for replica in controller.roster.of(endpoint.id):
                entity = endpoint.entities.get(replica.entity_id)
                if replica.phase in (Phase.READY, Phase.DRAINING):
                    yield ReplicaReading(
                        endpoint=endpoint.name,
                        entity=entity.name if entity is not None else "",
                        replica=replica.id,
                        slots=replica.model.slots,
                        in_flight=controller.gateways.in_flight(replica.id),
                        outstanding_work=controller.gateways.outstanding_work(replica.id),
                    )

    def _keep(self, endpoints: Iterable[Endpoint]) -> None:
        """Remember the ids of all that is there, and forget what belongs to endpoints that are no more."""
        alive = {endpoint.id: endpoint for endpoint in endpoints}
        for endpoint in alive.values():
            for entity in endpoint.entities.values():
                self._ids_of(endpoint, entity)
        for gone in self._ids.keys() - alive.keys():
            del self._ids[gone]
        self._told = {key: value for key, value in self._told.items() if key[0] in alive}


def histograms(subject: Subject, of: Callable[[Latency], Histogram]) -> tuple[HistogramReading, ...]:
    """One of each operation, as it stands now."""
    found = [(operation, of(latency)) for operation, latency in sorted(subject.answers.latency.items())]
    return tuple(HistogramReading(name, one.bounds, tuple(one.counts), one.sum) for name, one in found)


def _sum(several: Iterable[Totals]) -> Totals:
    total = Totals()
    for one in several:
        for counter in fields(Totals):
            setattr(total, counter.name, getattr(total, counter.name) + getattr(one, counter.name))
    return total


def _join(several: Iterable[AnswerCounts]) -> AnswerCounts:
    joined = AnswerCounts()
    for one in several:
        joined.join(one)
    return joined
