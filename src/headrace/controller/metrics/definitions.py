"""What each metric is called and means. The help texts say which tokens are meant, always.

Names of OpenTelemetry's semantic conventions for generative AI where there are any, in the form that Prometheus gives
them; else ``headrace_*`` with the unit in the name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headrace.controller.answers import Histogram, Latency
from headrace.controller.metrics.subject import Subject

REFERENCE = (
    "Reference tokens: work weighed so that a request of the reference workload, 2048 input and 256 output tokens, "
    "counts 2304."
)


class Number(NamedTuple):
    """A counter or a gauge of a served entity."""

    name: str
    help: str
    value: Callable[[Subject], float]


class Distribution(NamedTuple):
    """A histogram of a served entity by operation; seconds."""

    name: str
    help: str
    of: Callable[[Latency], Histogram]


COUNTERS = (
    Number("headrace_offered_requests", "Requests that arrived, each once.", lambda s: s.totals.arrivals),
    Number(
        "headrace_offered_work_reference_tokens",
        "Demand: work of the requests that arrived, by estimate, corrected when they end; retries that the client "
        f"marks as such are not counted again. Where corrections outweigh arrivals it stands still. {REFERENCE}",
        lambda s: s.totals.offered_work,
    ),
    Number("headrace_dispatched_requests", "Requests that were sent to a replica.", lambda s: s.totals.dispatched),
    Number(
        "headrace_dispatched_work_reference_tokens",
        f"Work of the requests that were sent to a replica, by estimate. {REFERENCE}",
        lambda s: s.totals.dispatched_work,
    ),
    Number(
        "headrace_rejected_requests",
        "Requests that were answered 429 or 503 without having been sent to a replica.",
        lambda s: s.totals.rejected,
    ),
    Number(
        "headrace_rejected_work_reference_tokens",
        f"Work of the rejected requests, by estimate. {REFERENCE}",
        lambda s: s.totals.rejected_work,
    ),
    Number(
        "headrace_served_work_reference_tokens",
        "Work of the requests that were sent to a replica and have ended, by their exact usage: what the range is "
        f"bought in. {REFERENCE}",
        lambda s: s.totals.served_work,
    ),
    Number(
        "headrace_input_tokens",
        "Input tokens of the requests that have ended, as the engine counts them, cached ones included.",
        lambda s: s.totals.input_tokens,
    ),
    Number(
        "headrace_output_tokens",
        "Output tokens, as the engine counts them; of streams in flight, what has come so far.",
        lambda s: s.totals.output_tokens,
    ),
    Number(
        "headrace_completed_requests",
        "Requests that were answered in full, an engine's 400 included.",
        lambda s: s.totals.completed,
    ),
    Number(
        "headrace_abandoned_requests",
        "Requests whose client left before the answer was complete.",
        lambda s: s.totals.abandoned,
    ),
    Number(
        "headrace_failed_requests",
        "Requests that were sent to a replica and not answered in full: 502, 504, or lost in mid-stream.",
        lambda s: s.totals.failed,
    ),
)

GAUGES = (
    Number(
        "headrace_chunks_desired",
        "Chunks (replicas) that the last scaling decision asks for.",
        lambda s: s.wanted,
    ),
    Number("headrace_chunks_ready", "Chunks that take requests.", lambda s: s.chunks.ready),
    Number("headrace_chunks_pending", "Chunks that were asked for or load.", lambda s: s.chunks.loading),
    Number("headrace_chunks_draining", "Chunks that only finish what they have.", lambda s: s.chunks.draining),
    Number(
        "headrace_chunks_billed",
        "Chunks that are billed now: at least the minimum of the range, else those ready or draining after a "
        "scale-down.",
        lambda s: s.billed,
    ),
    Number(
        "headrace_chunk_size_reference_tokens_per_second",
        f"What one chunk provides. {REFERENCE}",
        lambda s: s.entity.chunk,
    ),
    Number(
        "headrace_range_min_reference_tokens_per_second",
        f"Minimum of the range that was bought. {REFERENCE}",
        lambda s: s.entity.min_chunks * s.entity.chunk,
    ),
    Number(
        "headrace_range_max_reference_tokens_per_second",
        f"Maximum of the range that was bought: more is never admitted. {REFERENCE}",
        lambda s: s.range_max_tokens_s,
    ),
    Number(
        "headrace_range_utilization_ratio",
        "Served work, mean over the last minute, as a part of the range's maximum; 0 to 1, for moments more.",
        lambda s: s.served_tokens_s / s.range_max_tokens_s if s.range_max_tokens_s else 0.0,
    ),
    Number("headrace_queued_requests", "Requests held: they wait for a slot or for room.", lambda s: s.gauges.queued),
    Number(
        "headrace_queued_work_reference_tokens",
        f"Work of the requests that wait, by estimate. {REFERENCE}",
        lambda s: s.gauges.queued_work,
    ),
    Number("headrace_oldest_wait_seconds", "For how long the oldest has waited.", lambda s: s.gauges.oldest_wait_s),
    Number("headrace_in_flight_requests", "Requests that replicas work on.", lambda s: s.gauges.in_flight),
    Number(
        "headrace_in_flight_work_reference_tokens",
        f"Work of the requests that replicas work on, as reserved. {REFERENCE}",
        lambda s: s.gauges.in_flight_work,
    ),
    Number(
        "headrace_limiter_debt_reference_tokens",
        f"By how much admitted work is ahead of the range's maximum. {REFERENCE}",
        lambda s: s.gauges.limiter_debt,
    ),
)

DISTRIBUTIONS = (
    Distribution(
        "gen_ai_server_time_to_first_token_seconds",
        "TTFT: from a request's arrival, its wait in the queue included, to the first content sent back; of streamed "
        "answers that were complete.",
        lambda latency: latency.ttft,
    ),
    Distribution(
        "gen_ai_server_time_per_output_token_seconds",
        "TPOT: time per output token after the first, mean of each answer; of streamed answers of two tokens or more "
        "that were complete.",
        lambda latency: latency.tpot,
    ),
    Distribution(
        "gen_ai_server_request_duration_seconds",
        "E2E: from a request's arrival to the end of its answer; of answers that were complete.",
        lambda latency: latency.e2e,
    ),
    Distribution(
        "headrace_queue_time_seconds",
        "From a request's arrival until it was sent to a replica; of answers that were complete.",
        lambda latency: latency.queue,
    ),
    Distribution(
        "headrace_service_time_seconds",
        "E2E without the queue: the time at a replica; of answers that were complete.",
        lambda latency: latency.service,
    ),
)

ENDED_NAME = "headrace_requests"
ENDED_HELP = (
    "Requests that have ended, by HTTP status; 499: the client left first. Those that never reached an endpoint are "
    "not among them: a key that is refused, an unknown name, a body or a field that no endpoint takes, such as n: 2. "
    "What an endpoint or its engine refuses is: more tokens than the context holds, a temperature that is no number."
)
