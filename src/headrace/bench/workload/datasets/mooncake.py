"""Mooncake's traces (github.com/kvcache-ai/Mooncake): one JSON object a line, with ``timestamp`` in milliseconds,
lengths, and ``hash_ids``, the identities of the blocks of 512 tokens that the prompt consists of."""

from __future__ import annotations

from array import array

import msgspec
import numpy as np

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.files import lines
from headrace.bench.workload.datasets.rows import MOST_LENGTHS, Shapes, in_time, kept, left_out


class _Row(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []


def read_mooncake(path: str) -> Shapes:
    """Raises BenchError naming the line."""
    decoder = msgspec.json.Decoder(_Row)
    inputs, outputs, times = array("q"), array("q"), array("d")
    blocks: list[list[int]] = []
    unused = rows = 0
    findings: tuple[str, ...] = ()
    for number, line in lines(path):
        try:
            row = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise BenchError(
                f"{path}, line {number}: {error}; expected a JSON object with timestamp, input_length, output_length "
                "and hash_ids"
            ) from None
        rows += 1
        if row.input_length < 1 or row.output_length < 1:
            unused += 1
            continue
        inputs.append(row.input_length)
        outputs.append(row.output_length)
        times.append(row.timestamp / 1000)
        blocks.append(row.hash_ids)
        if len(inputs) == MOST_LENGTHS:
            findings = (kept(path, MOST_LENGTHS),)
            break
    if not inputs:
        raise BenchError(f"{path} holds no requests of 1 token or more each way; expected one a line")
    findings += left_out(unused, rows, "they have no input or no output tokens")
    shapes = Shapes(np.asarray(inputs), np.asarray(outputs), None, blocks if any(blocks) else None, findings)
    return in_time(shapes, np.asarray(times))
