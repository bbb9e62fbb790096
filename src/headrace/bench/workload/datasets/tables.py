"""Lengths in CSV files, with or without arrival times: plain lists of them, Azure's traces and BurstGPT.

Azure LLM inference traces of 2023 and 2024 (github.com/Azure/AzurePublicDataset): TIMESTAMP, ContextTokens,
GeneratedTokens. BurstGPT (github.com/HPMLL/BurstGPT): Timestamp in seconds, Model, Request tokens, Response tokens,
Total tokens, Log Type; a response of no tokens is a request that failed.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.files import opened
from headrace.bench.workload.datasets.rows import MOST_LENGTHS, Shapes, in_time, kept, left_out

_INPUT = {
    *("input", "input_tokens", "input_length", "input_len", "isl", "prompt", "prompt_tokens", "prompt_length"),
    *("prompt_len", "num_prefill_tokens", "prefill", "prefill_tokens", "context_tokens", "contexttokens"),
    *("request_tokens", "num_input_tokens", "num_prompt_tokens"),
}
_OUTPUT = {
    *("output", "output_tokens", "output_length", "output_len", "osl", "completion", "completion_tokens"),
    *("completion_length", "completion_len", "num_decode_tokens", "decode", "decode_tokens", "generated_tokens"),
    *("generatedtokens", "response_tokens", "num_output_tokens", "num_completion_tokens"),
}
_TIME = {"timestamp", "time", "time_s", "arrival_time", "arrived_at", "arrival_s"}


class Columns(NamedTuple):
    """Where a table says what, as indices of its columns."""

    input: int
    output: int | None
    time: int | None


def columns(header: list[str]) -> Columns | None:
    """None: this is no table of lengths."""
    names = [name.strip().lower().replace(" ", "_") for name in header]

    def find(known: set[str]) -> int | None:
        return next((place for place, name in enumerate(names) if name in known), None)

    found = find(_INPUT)
    return None if found is None else Columns(found, find(_OUTPUT), find(_TIME))


def read_table(path: str, output_tokens: int | None = None) -> Shapes:
    """``output_tokens`` are those of every request of a table that has none. Raises BenchError naming the line."""
    inputs, outputs, times = array("q"), array("q"), array("d")
    unused = rows = 0
    findings: tuple[str, ...] = ()
    with opened(path, newline="") as text:
        reader = csv.reader(text)
        header = next(reader, [])
        where = columns(header)
        if where is None or (where.output is None and output_tokens is None):
            raise BenchError(
                f"{path}, line 1: the columns are {', '.join(header) or 'none'}; expected lengths in tokens, under "
                "names such as input and output, num_prefill_tokens and num_decode_tokens, ContextTokens and "
                "GeneratedTokens"
            )
        width = 1 + max(place for place in where if place is not None)
        clock: Callable[[str], float] | None = None
        for row in reader:
            if not row:
                continue
            if len(row) < width:
                raise BenchError(
                    f"{path}, line {reader.line_num}: {len(row)} columns; expected {len(header)}: is the file cut off?"
                )
            rows += 1
            at = f"{path}, line {reader.line_num}"
            asked = _whole(row[where.input], header[where.input], at)
            answered = output_tokens if where.output is None else _whole(row[where.output], header[where.output], at)
            if asked < 1 or answered is None or answered < 1:
                unused += 1
                continue
            if where.time is not None:
                clock = clock or (float if _is_number(row[where.time]) else _date)
                times.append(_seconds(clock, row[where.time], at))
            inputs.append(asked)
            outputs.append(answered)
            if len(inputs) == MOST_LENGTHS:
                findings = (kept(path, MOST_LENGTHS),)
                break
    if not inputs:
        raise BenchError(f"{path} holds no requests of 1 token or more each way; expected one a line")
    findings += left_out(unused, rows, "they have no input or no output tokens (requests that failed)")
    shapes = Shapes(np.asarray(inputs), np.asarray(outputs), findings=findings)
    return shapes if where.time is None else in_time(shapes, np.asarray(times))


def _whole(value: str, name: str, at: str) -> int:
    try:
        return int(value)
    except ValueError:
        pass
    # Tables that have gone through a data frame say 374.0.
    if _is_number(value) and float(value).is_integer():
        return int(float(value))
    raise BenchError(f"{at}: {name} is {value!r}; expected a whole number of tokens")


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _date(value: str) -> float:
    """Azure's two ways: ``2023-11-16 18:15:46.6805900`` and ``2024-05-10 00:00:00.009930+00:00``."""
    date = datetime.fromisoformat(value)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _seconds(clock: Callable[[str], float], value: str, at: str) -> float:
    try:
        return clock(value)
    except ValueError:
        raise BenchError(
            f"{at}: the time is {value!r}; expected seconds, or a date such as 2023-11-16 18:15:46.6805900, and the "
            "same in all rows"
        ) from None
