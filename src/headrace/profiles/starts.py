"""How long replicas take to start here: measured at every start, and kept beside the profile.

A profile is frozen when it is measured, with the few starts of that measurement. A server sees a start whenever it
scales up or replaces a replica, under load and with a cold or a warm page cache: that is what a request at zero waits
for. The newest of each version of a model are in a file of ``profiles/starts/``.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from headrace.profiles.profile import Profile
from headrace.profiles.validity import Measurable
from headrace.profiles.whole_file import write

KEPT = 20
"""Starts of a model: enough for a median that one bad start does not move."""


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """The newest starts of one model."""

    model: str
    version: str
    engine: str
    sha256: str | None
    """Of the weights, where it is known."""
    seconds: tuple[float, ...]
    """Start of the process to ready; the newest last, at most ``KEPT``."""
    newest_ms: int
    """Unix time of the newest."""

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def load(profiles: Path, model: Measurable) -> Starts | None:
    """What was measured of this engine with these weights; None for nothing, also where the file cannot be read."""
    try:
        starts = msgspec.json.decode(_path(profiles, model).read_bytes(), type=Starts)
    except (OSError, msgspec.DecodeError):
        return None
    measured = (starts.model, starts.version, starts.engine, starts.sha256)
    same = measured == (model.name, model.version, model.engine, model.sha256)
    return starts if same and starts.seconds else None


def note(profiles: Path, model: Measurable, seconds: tuple[float, ...], now_ms: int) -> Starts:
    """Add starts; those of another engine or of other weights are forgotten. Raises OSError where the file cannot be
    written."""
    before = load(profiles, model)
    known = before.seconds if before is not None else ()
    starts = Starts(
        model=model.name,
        version=model.version,
        engine=model.engine,
        sha256=model.sha256,
        seconds=(*known, *seconds)[-KEPT:],
        newest_ms=now_ms,
    )
    write(_path(profiles, model), msgspec.json.encode(starts) + b"\n")
    return starts


def start_s(starts: Starts | None, profile: Profile | None) -> float | None:
    """How long the next start is likely to take: the median of those seen here, else what the profile measured."""
    if starts is not None:
        return starts.median_s
    return None if profile is None else profile.start_s


def _path(profiles: Path, model: Measurable) -> Path:
    return profiles / "starts" / f"{model.stem}.json"
