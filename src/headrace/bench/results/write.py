"""Results as files for programs: a summary as JSON, every request as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from headrace.bench.client.records import Outcome, Records, TokensFrom
from headrace.bench.errors import BenchError
from headrace.bench.results import timings
from headrace.bench.results.summary import Summary

ROWS_AT_ONCE = 10_000


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader looks for first stands at the front."""

    format: int
    valid: bool
    reasons: tuple[str, ...]
    summary: Summary


FORMAT = 1


def write_json(path: Path, summary: Summary) -> None:
    """Replaces the file."""
    written = _Written(format=FORMAT, valid=summary.valid, reasons=summary.reasons, summary=summary)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n")


def read_json(path: Path) -> Summary:
    """Raises BenchError where the file is no summary."""
    try:
        written = msgspec.json.decode(path.read_bytes(), type=_Written)
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise BenchError(f"{path} is no summary of a load run: {error}") from None
    if written.format != FORMAT:
        raise BenchError(f"{path} has format {written.format}; this version reads {FORMAT}")
    return written.summary


COLUMNS = (
    "number",
    "process",
    "outcome",
    "measured",
    "status",
    "retries",
    "new_connection",
    "scheduled_s",
    "sent_s",
    "first_byte_s",
    "first_token_s",
    "last_token_s",
    "end_s",
    "ttft_scheduled_s",
    "ttft_sent_s",
    "tpot_s",
    "e2e_scheduled_s",
    "e2e_sent_s",
    "asked_input_tokens",
    "asked_output_tokens",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "usage_told",
    "token_events",
    "tokens_from",
    "error",
    "segment",
)
"""Of the CSV, in this order; new ones come at the end. Times are seconds since the planned start of the run, without
those between its segments where it was interrupted; empty for what did not happen or is not known."""


def write_csv(path: Path, records: Records) -> None:
    """Replaces the file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for start in range(0, len(records.requests), ROWS_AT_ONCE):
            writer.writerows(zip(*_columns(records, slice(start, start + ROWS_AT_ONCE)), strict=True))


def _columns(records: Records, rows: slice) -> tuple[Sequence[object], ...]:
    part = replace(records, requests=records.requests[rows])
    starts = [segment.start_s for segment in records.segments] or [-np.inf]
    requests = part.requests

    def known(name: str) -> list[int | str]:
        return ["" if value < 0 else value for value in requests[name].tolist()]

    def times(name: str) -> list[str]:
        return _seconds(requests[name])

    return (
        requests["number"].tolist(),
        requests["process"].tolist(),
        [Outcome(value).name.lower() for value in requests["outcome"].tolist()],
        requests["measured"].astype(np.uint8).tolist(),
        [value or "" for value in requests["status"].tolist()],
        requests["retries"].tolist(),
        requests["new_connection"].astype(np.uint8).tolist(),
        *map(times, ("scheduled_s", "sent_s", "first_byte_s", "first_s", "last_s", "end_s")),
        _seconds(timings.ttft_scheduled_s(part)),
        _seconds(timings.ttft_sent_s(part)),
        _seconds(timings.tpot_s(part)),
        _seconds(timings.e2e_scheduled_s(part)),
        _seconds(timings.e2e_sent_s(part)),
        *map(known, ("asked_input", "asked_output")),
        *(requests[name].tolist() for name in ("input_tokens", "cached_tokens", "output_tokens")),
        requests["counted"].astype(np.uint8).tolist(),
        requests["events"].tolist(),
        [TokensFrom(value).name.lower() for value in requests["tokens_from"].tolist()],
        ["" if kind < 0 else records.errors[kind] for kind in requests["error"].tolist()],
        np.searchsorted(starts, requests["scheduled_s"], side="right").tolist(),
    )


def _seconds(values: timings.Seconds) -> list[str]:
    """To the microsecond, which is finer than a read of a socket is timed."""
    return ["" if math.isnan(value) else f"{value:.6f}" for value in values.tolist()]
