"""Latencies of every request, as arrays beside ``Records.requests``; NaN where a request shows none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import FIRST_FOLLOW_UP, Outcome, Records

Seconds = NDArray[np.float64]
Chosen = NDArray[np.bool_]
"""Of the requests, in their order."""

COALESCED_S = 20e-6
"""Events closer than this came in one read of the socket: the time between them is the network's, not the engine's."""


def ok(records: Records) -> Chosen:
    """Complete answers."""
    return np.asarray(records.requests["outcome"] == Outcome.OK)


def scheduled(records: Records) -> Chosen:
    """Measured requests that are on the schedule: not the later turns of sessions."""
    return np.asarray(records.requests["measured"] & (records.requests["number"] < FIRST_FOLLOW_UP))


def first_shown_s(records: Records) -> Seconds:
    """When a client saw the first token: of a complete answer that was no stream, its end. NaN where none came."""
    requests = records.requests
    unstreamed = np.isnan(requests["first_s"]) & ok(records)
    return np.asarray(np.where(unstreamed, requests["end_s"], requests["first_s"]))


def ttft_scheduled_s(records: Records) -> Seconds:
    """From when the request was due to its first token: what a client sees that does not wait for this one. NaN for an
    answer that was no stream."""
    return np.asarray(records.requests["first_s"] - records.requests["scheduled_s"])


def ttft_sent_s(records: Records) -> Seconds:
    """From the first byte sent to the first token."""
    return np.asarray(records.requests["first_s"] - records.requests["sent_s"])


def e2e_scheduled_s(records: Records) -> Seconds:
    """From when the request was due to the end of its answer."""
    return np.asarray(records.requests["end_s"] - records.requests["scheduled_s"])


def e2e_sent_s(records: Records) -> Seconds:
    """From the first byte sent to the end of the answer."""
    return np.asarray(records.requests["end_s"] - records.requests["sent_s"])


def lag_s(records: Records) -> Seconds:
    """How much later than due a request was sent: the client's own share of a latency from the scheduled time."""
    return np.asarray(records.requests["sent_s"] - records.requests["scheduled_s"])


def tpot_s(records: Records) -> Seconds:
    """(last token - first token) / tokens after the first event.

    Tokens that came with the first event cost no time of this span, so they are not divided by: with one token in it,
    the usual (output - 1).
    NaN for an answer that came in one event: nothing of its pace was seen.
    """
    requests = records.requests
    paced = requests["events"] >= 2
    # Every event after the first carries a token, whatever the server's usage says.
    after = np.maximum(requests["output_tokens"] - _first_event_tokens(records), requests["events"] - 1)
    spans = requests["last_s"] - requests["first_s"]
    return np.asarray(np.where(paced, spans / np.maximum(after, 1), np.nan))


def tpot_at_most_s(records: Records) -> Seconds:
    """TPOT, or what it cannot exceed for an answer that came in one event: all of (end - sent) spent on the tokens
    after the first. Zero for an answer of one token."""
    requests = records.requests
    seen = tpot_s(records)
    after = requests["output_tokens"] - 1
    bound = (requests["end_s"] - requests["sent_s"]) / np.maximum(after, 1)
    return np.asarray(np.where(after <= 0, 0.0, np.where(np.isnan(seen), bound, seen)))


def _first_event_tokens(records: Records) -> NDArray[np.int64]:
    tokens = np.ones(len(records.requests), np.int64)
    having = np.flatnonzero(records.requests["events"] > 0)
    tokens[having] = records.event_tokens[records.requests["first_event"][having]]
    return tokens


def gaps_s(records: Records, chosen: Chosen) -> tuple[Seconds, NDArray[np.uint16]]:
    """Inter-token latencies of the chosen requests: seconds since the event before in the same answer, and how many
    tokens the event carries. The first event of an answer has none. In the order of the arrays of events."""
    requests = records.requests[chosen & (records.requests["events"] > 0)]
    first = requests["first_event"]
    # Ten million events: each range of them is opened and closed by one step, and no event is looked at by itself.
    steps = np.zeros(len(records.event_s) + 1, np.int8)
    steps[first] += 1
    steps[first + requests["events"]] -= 1
    later = np.cumsum(steps[:-1], dtype=np.int8).astype(np.bool_)
    later[first] = False
    return np.diff(records.event_s)[later[1:]], records.event_tokens[later]
