"""What is measured of every client, a case each."""

from __future__ import annotations

from dataclasses import dataclass

from answers import Answers
from plan import Load

APART = Answers(events=80, interval_s=0.025)
DENSE = Answers(events=256, interval_s=0.004)
TOGETHER = Answers(events=1024)
SHORT = Answers(events=16)
SEVERAL = Answers(events=8, tokens_an_event=4, interval_s=0.02)
COMMON_RATE = 40.0
"""Requests/s that the slowest can send."""
SHARE = 0.7
"""Of a client's own saturation, and of what Headrace's is to be at least."""
LEAST_SATURATION = 5_000.0
"""Streams/s on a core."""


@dataclass(frozen=True)
class Case:
    """A load, and the part of it over which processor time is counted."""

    name: str
    load: Load
    from_s: float
    """After the first request has arrived."""
    to_s: float


def apart(seconds: float) -> Case:
    """Every event is read alone: one of each of 64 streams every 25 ms, so that most clients have time to read them
    all before the next ones come. Counted over whole streams."""
    cycle_s = APART.events * APART.interval_s
    whole = max(1, int(seconds / cycle_s))
    load = Load(users=64, seconds=(whole + 1.1) * cycle_s, answers=APART)
    return Case("apart", load, 1.02 * cycle_s, (1.02 + whole) * cycle_s)


def dense(seconds: float, *, record: bool = True) -> Case:
    """As many events as an engine of 256 slots and 4 ms an iteration sends: 64,000/s, each read alone."""
    answers = DENSE if record else Answers(events=DENSE.events, interval_s=DENSE.interval_s, record=False)
    cycle_s = answers.events * answers.interval_s
    whole = max(1, int(seconds / cycle_s))
    load = Load(users=256, seconds=(whole + 1.1) * cycle_s, answers=answers)
    return Case("dense" if record else "dense_unrecorded", load, 1.02 * cycle_s, (1.02 + whole) * cycle_s)


def together(seconds: float) -> Case:
    """The events of a stream come at once, as fast as the server can write them."""
    return _at_once("together", Load(users=4, seconds=seconds, answers=TOGETHER))


def requests(seconds: float) -> Case:
    """Streams of 16 events from users who do not wait: as many as the client can do on its core."""
    return _at_once("requests", Load(users=64, seconds=seconds, answers=SHORT))


def seventy(seconds: float, rate: float) -> Case:
    """At this rate, which is ``SHARE`` of a saturation."""
    return _at_once("seventy", Load(rate=rate, seconds=seconds, answers=SHORT))


def promised(seconds: float) -> Case:
    """At ``SHARE`` of what Headrace's client has to reach."""
    return _at_once("promised", Load(rate=SHARE * LEAST_SATURATION, seconds=seconds, answers=SHORT))


def common(seconds: float) -> Case:
    """The same rate for all; four tokens an event."""
    return _at_once("common", Load(rate=COMMON_RATE, seconds=seconds, answers=SEVERAL))


def _at_once(name: str, load: Load) -> Case:
    return Case(name, load, 0.2 * load.seconds, 0.9 * load.seconds)
