"""Records kept for a later comparison: one compressed file of arrays, without pickled objects."""

from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec
import numpy as np

from headrace.bench.client.records import REQUEST, ProcessReport, Records, Segment
from headrace.bench.errors import BenchError


class _Rest(msgspec.Struct, frozen=True, kw_only=True):
    errors: tuple[str, ...]
    processes: tuple[ProcessReport, ...]
    planned_s: tuple[float, ...] | None
    stolen_share: float
    segments: tuple[Segment, ...] = ()


def save(path: Path, records: Records) -> None:
    """Replaces the file; its name should end in ``.npz``."""
    rest = _Rest(
        errors=records.errors,
        processes=records.processes,
        planned_s=records.planned_s,
        stolen_share=records.stolen_share,
        segments=records.segments,
    )
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            requests=records.requests,
            event_s=records.event_s,
            event_tokens=records.event_tokens,
            rest=np.frombuffer(msgspec.json.encode(rest), np.uint8),
        )


def load(path: Path) -> Records:
    """Raises BenchError where the file holds no records, or those of another version."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            requests, event_s, event_tokens = (arrays[name] for name in ("requests", "event_s", "event_tokens"))
            rest = msgspec.json.decode(arrays["rest"].tobytes(), type=_Rest)
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror or error}") from None
    except (KeyError, ValueError, zipfile.BadZipFile, msgspec.DecodeError):
        raise BenchError(f"{path} holds no records of a load run") from None
    if requests.dtype != REQUEST:
        raise BenchError(f"{path} was written by another version of headrace; measure again")
    return Records(
        requests=requests,
        event_s=event_s,
        event_tokens=event_tokens,
        errors=rest.errors,
        processes=rest.processes,
        planned_s=rest.planned_s,
        stolen_share=rest.stolen_share,
        segments=rest.segments,
    )
