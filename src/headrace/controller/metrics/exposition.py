"""A reading in Prometheus' text form or OpenMetrics', as the one who asks accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from headrace import __version__
from headrace.controller.metrics.definitions import (
    COUNTERS,
    DISTRIBUTIONS,
    ENDED_HELP,
    ENDED_NAME,
    GAUGES,
    REFERENCE,
)
from headrace.controller.metrics.reading import EntityReading, HistogramReading, Reading

ENTITY = ("endpoint", "entity")
GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
"""Attributes that the semantic conventions ask for."""
PROVIDER = "headrace"


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def expose(families: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """The text and its content type."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(list(families)))
    return encode(registry), content_type


def families_of(reading: Reading) -> Iterator[Metric]:
    """Every metric of a reading, also those that have no value yet."""
    entities = reading.entities
    yield from _server(reading)
    info = GaugeMetricFamily(
        "headrace_entity_info",
        "1: what a served entity is. profile_status: provisional, quick, measured or doubtful.",
        labels=(*ENTITY, "model", "model_version", "engine", "profile_status"),
    )
    for one in entities:
        info.add_metric((*_labels(one), one.model, one.model_version, one.engine, one.profile_status), 1)
    yield info
    for place, number in enumerate(COUNTERS):
        counter = CounterMetricFamily(number.name, number.help, labels=ENTITY)
        for one in entities:
            counter.add_metric(_labels(one), one.counters[place])
        yield counter
    ended = CounterMetricFamily(ENDED_NAME, ENDED_HELP, labels=(*ENTITY, "code"))
    for one in entities:
        for status, count in sorted(one.statuses.items()):
            ended.add_metric((*_labels(one), str(status)), count)
    yield ended
    for place, number in enumerate(GAUGES):
        gauge = GaugeMetricFamily(number.name, number.help, labels=ENTITY)
        for one in entities:
            gauge.add_metric(_labels(one), one.gauges[place])
        yield gauge
    for place, distribution in enumerate(DISTRIBUTIONS):
        family = HistogramMetricFamily(distribution.name, distribution.help, labels=(*ENTITY, *GEN_AI))
        for one in entities:
            for histogram in one.histograms[place]:
                labels = (*_labels(one), histogram.operation, PROVIDER, one.endpoint, one.model)
                family.add_metric(labels, buckets(histogram), sum_value=histogram.sum)
        yield family
    yield from _replicas(reading)


def buckets(histogram: HistogramReading, scale: float = 1.0) -> Sequence[tuple[str, float]]:
    """Cumulative, by upper bound times ``scale``."""
    bounds = [str(float(f"{bound * scale:.9g}")) for bound in histogram.bounds]
    return list(zip([*bounds, "+Inf"], accumulate(histogram.counts), strict=True))


def _labels(one: EntityReading) -> tuple[str, str]:
    return one.endpoint, one.entity


def _server(reading: Reading) -> Iterator[Metric]:
    version = GaugeMetricFamily("headrace_build_info", "1: the version of Headrace.", labels=("version",))
    version.add_metric((__version__,), 1)
    yield version
    yield GaugeMetricFamily("headrace_endpoints", "Endpoints that there are.", value=reading.endpoints)
    yield GaugeMetricFamily(
        "headrace_gateways_connected", "Gateways that report to the controller.", value=reading.gateways
    )
    age = GaugeMetricFamily(
        "headrace_gateway_report_age_seconds",
        "Since the newest report of a gateway; absent before the first. What comes from gateways is as old.",
    )
    if reading.tick_age_s is not None:
        age.add_metric((), reading.tick_age_s)
    yield age
    yield GaugeMetricFamily(
        "headrace_gateways_unable_to_record",
        "Gateways whose disk takes no usage records.",
        value=reading.journals_failing,
    )
    dropped = GaugeMetricFamily(
        "headrace_metrics_dropped",
        "What is not told of here, as there is too much of it: served entities and replicas of the newest endpoints.",
        labels=("kind",),
    )
    dropped.add_metric(("entity",), reading.entities_dropped)
    dropped.add_metric(("replica",), reading.replicas_dropped)
    yield dropped


def _replicas(reading: Reading) -> Iterator[Metric]:
    labels = (*ENTITY, "replica")
    slots = GaugeMetricFamily(
        "headrace_replica_slots", "Requests that a replica works on at once, at most.", labels=labels
    )
    in_flight = GaugeMetricFamily(
        "headrace_replica_in_flight_requests", "Requests that a replica works on.", labels=labels
    )
    work = GaugeMetricFamily(
        "headrace_replica_outstanding_work_reference_tokens",
        f"Work of the requests that a replica works on, as reserved. {REFERENCE}",
        labels=labels,
    )
    for one in reading.replicas:
        values = (one.endpoint, one.entity, one.replica)
        slots.add_metric(values, one.slots)
        in_flight.add_metric(values, one.in_flight)
        work.add_metric(values, one.outstanding_work)
    yield from (slots, in_flight, work)
