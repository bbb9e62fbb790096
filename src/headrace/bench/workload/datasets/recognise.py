"""Which format a file has, told by how it begins."""

from __future__ import annotations

import csv
import json
from itertools import islice

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets import tables
from headrace.bench.workload.datasets.files import opened
from headrace.bench.workload.spec import DatasetFormat

_START = 1 << 16


def recognise(path: str) -> DatasetFormat:
    """Raises BenchError for a file that is empty or cannot be read."""
    with opened(path) as text:
        start = text.read(_START)
    first = next((line for line in start.splitlines() if line.strip()), "")
    if not first:
        raise BenchError(f"{path} is empty; expected a dataset")
    if start.lstrip().startswith("["):
        return "sharegpt"
    if start.lstrip().startswith("{"):
        return _of_object(first)
    found = _of_table(start)
    if found == "prompts" and path.endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz", ".json.xz", ".jsonl.xz")):
        raise BenchError(f"{path} holds no JSON; expected an object on every line")
    if "\0" in start:
        raise BenchError(f"{path} is no text; expected a dataset")
    return found


def _of_object(line: str) -> DatasetFormat:
    try:
        row = json.loads(line)
    except ValueError:
        # An object over several lines, or a long line that was read in part.
        row = {name: None for name in ("conversations", "hash_ids", "messages") if f'"{name}"' in line}
    if "conversations" in row:
        return "sharegpt"
    return "mooncake" if "hash_ids" in row or "input_length" in row else "chat"


def _of_table(start: str) -> DatasetFormat:
    rows = list(islice(csv.reader(start.splitlines()), 2))
    header = rows[0]
    where = tables.columns(header)
    numbers = where is not None and len(rows) > 1 and len(rows[1]) > where.input and rows[1][where.input].strip()
    if where is None or not _is_number(numbers or ""):
        return "prompts"
    names = {name.strip().lower() for name in header}
    if "contexttokens" in names:
        return "azure"
    return "burstgpt" if "response tokens" in names else "lengths"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
