"""How long replicas take to start here: measured at every start, and kept beside the profile.

A profile is frozen when it is measured, with the few starts of that measurement. A server sees a start whenever it
scales up or replaces a replica, under load and with a cold or a warm page cache: that is what a request at zero waits
for. The newest of them are in ``profiles/starts/MODEL.json``.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from headrace.profiles.profile import Profile
from headrace.profiles.whole_file import write

KEPT = 20
"""Starts of a model: enough for a median that one bad start does not move."""


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """The newest starts of one model."""

    model: str
    version: str
    seconds: tuple[float, ...]
    """Start of the process to ready; the newest last, at most ``KEPT``."""
    newest_ms: int
    """Unix time of the newest."""

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def load(profiles: Path, model: str, version: str) -> Starts | None:
    """What was measured of this version of a model; None for nothing, also where the file cannot be read."""
    try:
        starts = msgspec.json.decode(_path(profiles, model).read_bytes(), type=Starts)
    except (OSError, msgspec.DecodeError):
        return None
    return starts if (starts.model, starts.version) == (model, version) and starts.seconds else None


def note(profiles: Path, model: str, version: str, seconds: tuple[float, ...], now_ms: int) -> Starts:
    """Add starts; those of another version are forgotten. Raises OSError where the file cannot be written."""
    before = load(profiles, model, version)
    known = before.seconds if before is not None else ()
    starts = Starts(model=model, version=version, seconds=(*known, *seconds)[-KEPT:], newest_ms=now_ms)
    write(_path(profiles, model), msgspec.json.encode(starts) + b"\n")
    return starts


def start_s(starts: Starts | None, profile: Profile | None) -> float | None:
    """How long the next start is likely to take: the median of those seen here, else what the profile measured."""
    if starts is not None:
        return starts.median_s
    return None if profile is None else profile.start_s


def _path(profiles: Path, model: str) -> Path:
    return profiles / "starts" / f"{model}.json"
