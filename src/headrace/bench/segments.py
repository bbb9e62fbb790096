"""A run that can be gone on with: what each client leaves in its folder, and what the next one takes up from there.

The records are there already, as its processes wrote them. ``began.json`` says where on the schedule they begin, and
``ended.json``, where the client lived to write it, how it had fared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from headrace.bench.client.joined import Part, before
from headrace.bench.client.merge import Merge
from headrace.bench.client.records import ProcessReport, Records
from headrace.bench.client.rest import rest_after
from headrace.bench.client.run import records_file
from headrace.bench.client.shares import planned_s, useful_processes
from headrace.bench.client.spec import ClientSpec, Rest
from headrace.bench.errors import BenchError
from headrace.bench.workload.source import open_workload
from headrace.bench.workload.spec import Prose

T = TypeVar("T")

BEGAN, ENDED = "began.json", "ended.json"


class Began(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    """Unix time, in seconds."""
    rest: Rest
    """What it was to send."""
    prose: Prose | None
    """What had been found of the model's tokens: requests are made the same again."""
    null_s: float | None
    """TTFT p99 against a null server before it; None: not measured."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    processes: tuple[ProcessReport, ...]
    stolen_share: float
    null_s: float | None
    """As before, but after it."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What has been measured of a run."""

    parts: tuple[Part, ...] = ()
    rest: Rest | None = field(default_factory=Rest)
    """What has not; None: all of it has."""
    prose: Prose | None = None
    null_s: tuple[float | None, float | None] = (None, None)
    """TTFT p99 against a null server, before and after: the worst of all segments."""

    @property
    def requests(self) -> int:
        return sum(len(part.records.requests) for part in self.parts)


def begin(folder: Path, began: Began) -> None:
    """Raises BenchError where it cannot be written."""
    _write(folder / BEGAN, msgspec.json.encode(began))


def end(folder: Path, ended: Ended) -> None:
    """Raises BenchError where it cannot be written."""
    _write(folder / ENDED, msgspec.json.encode(ended))


def earlier(folders: Sequence[Path], spec: ClientSpec) -> Earlier:
    """What is in the folders of a run, in the order in which they were made; ``spec``: of all of it. Where a client was
    killed, its records end with the last that it wrote whole. Raises BenchError."""
    segments = [(folder, began) for folder in folders if (began := _read(folder / BEGAN, Began)) is not None]
    if not segments:
        return Earlier()
    load, processes = spec.load, useful_processes(spec.load, spec.processes)
    planned = planned_s(load, open_workload(load).trace_s)
    parts: list[Part] = []
    null_s: tuple[float | None, float | None] = (None, None)
    rest: Rest | None = None
    for place, (folder, began) in enumerate(segments, start=1):
        records, ended = _records(folder, processes), _read(folder / ENDED, Ended)
        if place < len(segments):
            rest = segments[place][1].rest
        else:
            rest = rest_after(load, planned, processes, began.rest, records.requests)
        if rest is not None:
            records = before(records, rest)
        if planned is not None:
            due_s = planned[began.rest.begins : None if rest is None else rest.begins] - began.rest.schedule_s
            records = replace(records, planned_s=tuple(due_s.tolist()))
        if ended is not None:
            records = replace(records, processes=ended.processes, stolen_share=ended.stolen_share)
        parts.append(Part(records, began.at, began.rest.schedule_s, told=ended is not None))
        null_s = worst(null_s, (began.null_s, None if ended is None else ended.null_s))
    return Earlier(tuple(parts), rest, segments[0][1].prose, null_s)


def worst(
    one: tuple[float | None, float | None], other: tuple[float | None, float | None]
) -> tuple[float | None, float | None]:
    before_s, after_s = (
        max((value for value in pair if value is not None), default=None) for pair in zip(one, other, strict=True)
    )
    return before_s, after_s


def _records(folder: Path, processes: int) -> Records:
    merge = Merge([records_file(folder, share) for share in range(processes)], torn=True)
    try:
        merge.read()
    except OSError as error:
        raise BenchError(f"cannot read what {folder} keeps of the run: {error.strerror or error}") from None
    return merge.records()


def _read(path: Path, kind: type[T]) -> T | None:
    """None where it was not written, or not wholly."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror or error}") from None
    except msgspec.DecodeError:
        return None


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror or error}") from None
