"""Decides again what a decision log holds, with the objects that decided it, and compares decision by decision.

What the same version recorded must agree to the last bit of every input. Another version may have looked at more or
less: number and words must agree. Another law has words of its own: the number must.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from headrace import __version__
from headrace.decisions.reader import DecisionLogError, Line
from headrace.decisions.records import Began, Decided, Reported, Terms, Watched, digest
from headrace.policy.observing import Observer
from headrace.policy.scaling import LAW, Decision, State, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that came out otherwise."""

    place: str
    """File and line."""
    entity: str
    """Endpoint and served entity, by name."""
    chunks: tuple[int, int]
    """As recorded, and as decided again; so are the next."""
    reason: tuple[str, str]
    inputs: dict[str, Any]
    """What the law was given this time."""


@dataclass(slots=True)
class Replay:
    """What came of it, up to the first difference."""

    decisions: int = 0
    changes: int = 0
    """Decisions for another number of chunks than the one before, or, the first of an entity, than there were: each was
    an event of the kind ``scaled``."""
    segments: int = 0
    seconds: float = 0.0
    """That the segments cover, without the time between them."""
    entities: set[str] = field(default_factory=set)
    """Their ids: where an endpoint goes on to another model, that is another entity."""
    endpoints: set[str] = field(default_factory=set)
    """Their names."""
    versions: set[str] = field(default_factory=set)
    """Of Headrace, that decided."""
    laws: set[int] = field(default_factory=set)
    """By their numbers (``policy.scaling.LAW``), those by which it was decided."""
    difference: Difference | None = None


@dataclass(slots=True)
class _Subject:
    observer: Observer
    state: State
    terms: Terms | None = None


def replay(lines: Iterable[Line]) -> Replay:
    """Raises what reading ``lines`` raises, and DecisionLogError where a record is of an entity that was not named."""
    came, subjects, looked, by = Replay(), dict[int, _Subject](), None, (LAW, __version__)
    for line in lines:
        match record := line.record:
            case Began():
                subjects, looked = {}, None
                came.segments += 1
                came.versions.add(record.version)
                came.laws.add(record.law)
                by = record.law, record.version
            case Watched():
                subjects[record.of] = _Subject(Observer.restored(record.memory), record.state)
                came.entities.add(record.entity)
            case Terms():
                _of(subjects, record.of, line).terms = record
                came.endpoints.add(record.endpoint)
            case Reported():
                _of(subjects, record.of, line).observer.report(record.now, record.gateway, record)
            case Decided():
                subject = _of(subjects, record.of, line)
                before, came.difference = subject.state.target, _decide(subject, record, line, by)
                if came.difference is not None:
                    return came
                came.decisions += 1
                there = record.has.ready + record.has.pending if before is None else before
                came.changes += record.chunks != there
                came.seconds += 0.0 if looked is None else record.now - looked
                looked = record.now
    return came


def _of(subjects: dict[int, _Subject], of: int, line: Line) -> _Subject:
    subject = subjects.get(of)
    if subject is None:
        raise DecisionLogError(f"{line.place}: what number {of} is was not said before")
    return subject


def _decide(subject: _Subject, record: Decided, line: Line, by: tuple[int, str]) -> Difference | None:
    terms = subject.terms
    if terms is None:
        raise DecisionLogError(f"{line.place}: by which terms it was decided was not said before")
    observation = subject.observer.observe(
        record.now,
        terms.bought,
        record.has,
        terms.knobs,
        connected=record.connected,
        metrics_age_s=record.metrics_age_s,
    )
    decision = decide(observation, terms.knobs, subject.state)
    subject.state = decision.state
    if _same(decision, record, by):
        return None
    return Difference(
        place=line.place,
        entity=f"{terms.endpoint}/{terms.name}",
        chunks=(record.chunks, decision.chunks),
        reason=(record.reason, decision.reason),
        inputs=decision.inputs,
    )


def _same(decision: Decision, record: Decided, by: tuple[int, str]) -> bool:
    """``by``: law and version that recorded it."""
    law, version = by
    if law != LAW:
        return decision.chunks == record.chunks
    if (decision.chunks, decision.reason) != (record.chunks, record.reason):
        return False
    return version != __version__ or digest(decision) == record.digest
