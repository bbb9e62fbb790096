"""The metrics of one endpoint by the names of Databricks' export, for what scrapes that.

Three of the names end in ``_total`` and are gauges of the last minute all the same: so they are there. What is not
measured here (use of GPUs) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import Phase
from headrace.controller.metrics.exposition import buckets
from headrace.controller.metrics.process_use import ProcessorUse, Use
from headrace.controller.metrics.reading import HistogramReading, Reader, histograms
from headrace.engines.llamacpp import physical_memory

LABELS = ("endpoint_name", "served_entity_name")
MS = 1000.0


@dataclass(frozen=True, slots=True)
class ExportReading:
    """One served entity."""

    entity: str
    slots_ready: int
    """Requests that its ready replicas work on at once."""
    requests: int
    """That ended in the last minute; so the next two."""
    requests_4xx: int
    requests_5xx: int
    cpu_percent: float | None
    """Of the cores of its replicas; None where it is not known, as of servers that run elsewhere."""
    memory_percent: float | None
    """Of this machine's memory."""
    e2e: Sequence[HistogramReading]
    service: Sequence[HistogramReading]
    queue: Sequence[HistogramReading]


class Export:
    """Reads one endpoint again and again."""

    def __init__(self, controller: Controller, reader: Reader) -> None:
        self._controller = controller
        self._reader = reader
        self._use: dict[str, ProcessorUse] = {}
        """By endpoint id."""
        self._memory = physical_memory()

    def leaders(self, endpoint: Endpoint) -> list[int]:
        """Process groups to look at: the replicas of this machine."""
        return [replica.pid for replica in self._controller.roster.of(endpoint.id) if replica.pid is not None]

    def read(self, endpoint: Endpoint, uses: Mapping[int, Use]) -> list[ExportReading]:
        """``uses``: of the process groups, as they are now."""
        known = {one.id for one in self._controller.store.endpoints()}
        self._use = {id: use for id, use in self._use.items() if id in known}
        cores = self._use.setdefault(endpoint.id, ProcessorUse()).cores(uses, self._controller.clock.now())
        return [self._entity(endpoint, entity, uses, cores) for entity in endpoint.current.entities]

    def _entity(
        self, endpoint: Endpoint, entity: Entity, uses: Mapping[int, Use], cores: Mapping[int, float]
    ) -> ExportReading:
        subject = self._reader.subject(endpoint, entity)
        replicas = [one for one in self._controller.roster.of(endpoint.id) if one.entity_id == entity.id]
        here = [one for one in replicas if one.pid in uses]
        timed = [one for one in here if one.pid in cores and one.cpus]
        recent = self._controller.gateways.answers.of(entity.id).recent(self._controller.clock.now())
        return ExportReading(
            entity=entity.name,
            slots_ready=sum(one.model.slots for one in replicas if one.phase is Phase.READY),
            requests=recent.total(),
            requests_4xx=sum(count for status, count in recent.items() if status // 100 == 4),
            requests_5xx=sum(count for status, count in recent.items() if status // 100 == 5),
            cpu_percent=100 * sum(cores[one.pid or 0] for one in timed) / sum(len(one.cpus) for one in timed)
            if timed
            else None,
            memory_percent=100 * sum(uses[one.pid or 0].resident_bytes for one in here) / self._memory
            if here
            else None,
            e2e=histograms(subject, lambda latency: latency.e2e),
            service=histograms(subject, lambda latency: latency.service),
            queue=histograms(subject, lambda latency: latency.queue),
        )


def families(endpoint: str, entities: Sequence[ExportReading]) -> Iterator[Metric]:
    """In the order of the documentation of Databricks."""
    for name, text, value in (
        ("cpu_usage_percentage", "Processor time used, of the cores of the replicas; mean of a minute.", "cpu_percent"),
        ("mem_usage_percentage", "Physical memory of the replicas, of that of the machine.", "memory_percent"),
        ("provisioned_concurrent_requests_total", "Requests that ready replicas work on at once.", "slots_ready"),
        ("request_count_total", "Requests that ended in the last minute.", "requests"),
        ("request_4xx_count_total", "Of them with a status of 400 to 499; 499: the client left.", "requests_4xx"),
        ("request_5xx_count_total", "Of them with a status of 500 to 599.", "requests_5xx"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for one in entities:
            number = getattr(one, value)
            if number is not None:
                gauge.add_metric((endpoint, one.entity), number)
        if gauge.samples:
            yield gauge
    for name, text, of in (
        ("request_latency_ms", "From a request's arrival to the end of its answer; complete answers.", "e2e"),
        ("model_prediction_latency_ms", "Of that, the time at a replica.", "service"),
        ("model_queue_time_ms", "Of that, the wait in the queue.", "queue"),
    ):
        histogram = HistogramMetricFamily(name, text, labels=(*LABELS, "operation"))
        for one in entities:
            for reading in getattr(one, of):
                labels = (endpoint, one.entity, reading.operation)
                histogram.add_metric(labels, buckets(reading, MS), sum_value=reading.sum * MS)
        if histogram.samples:
            yield histogram
