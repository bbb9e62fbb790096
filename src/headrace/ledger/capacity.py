"""How much each served entity provided, over time: append-only points, and the heartbeat that dates a death.

A point holds until the next one of its entity. When a whole machine goes down nothing writes the point that closes
the last interval, so the controller beats: what ran at the last beat is taken to have ended then.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from operator import attrgetter

from sqlalchemy import func, select, update

from headrace.ledger.database import Database
from headrace.ledger.schema import Capacity, Heartbeat
from headrace.policy.billing import CapacityPoint


class CapacityTimeline:
    """The points of all served entities. The newest of each is held in memory; the controller is the only writer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: dict[str, dict[str, CapacityPoint]] = {}
        """By endpoint and entity."""
        self.reload()

    def reload(self) -> None:
        """Forget what is in memory for what is in the database."""
        self._newest = {}
        with self._database.read() as session:
            newest = select(func.max(Capacity.id)).group_by(Capacity.endpoint, Capacity.entity)
            for row in session.scalars(select(Capacity).where(Capacity.id.in_(newest)).order_by(Capacity.id)):
                self._newest.setdefault(row.endpoint, {})[row.entity] = _point(row)

    def note(self, endpoint: str, entity: str, point: CapacityPoint) -> bool:
        """Append a point, unless it says what the newest one says; whether it was appended.

        A point that is older than the newest takes that one's time: the timeline never goes back.
        """
        newest = self._newest.get(endpoint, {}).get(entity)
        if newest is not None:
            if _says(newest) == _says(point):
                return False
            point = replace(point, at_ms=max(point.at_ms, newest.at_ms))
        with self._database.write() as session:
            session.add(Capacity(endpoint=endpoint, entity=entity, **asdict(point)))
        self._newest.setdefault(endpoint, {})[entity] = point
        return True

    def newest(self, endpoint: str) -> dict[str, CapacityPoint]:
        """The last point of each entity that the endpoint ever had, by its id."""
        return dict(self._newest.get(endpoint, {}))

    def endpoints(self) -> list[str]:
        """Ids of every endpoint that has points."""
        return sorted(self._newest)

    def points(self, endpoint: str, to_ms: int) -> dict[str, list[CapacityPoint]]:
        """Those before ``to_ms``, by entity, in order."""
        query = select(Capacity).where(Capacity.endpoint == endpoint, Capacity.at_ms < to_ms).order_by(Capacity.id)
        points: dict[str, list[CapacityPoint]] = {}
        with self._database.read() as session:
            for row in session.scalars(query):
                points.setdefault(row.entity, []).append(_point(row))
        return points

    def beat(self, now_ms: int) -> None:
        """The controller runs, and so does what it saw running."""
        with self._database.write() as session:
            beats = session.connection().execute(update(Heartbeat).where(Heartbeat.id == 1).values(at_ms=now_ms))
            if not beats.rowcount:
                session.add(Heartbeat(id=1, at_ms=now_ms))

    def last_beat_ms(self) -> int | None:
        with self._database.read() as session:
            return session.scalar(select(Heartbeat.at_ms))


_says = attrgetter(*(one.name for one in fields(CapacityPoint) if one.name != "at_ms"))
"""What a point says, whenever it says it."""


def _point(row: Capacity) -> CapacityPoint:
    return CapacityPoint(
        at_ms=row.at_ms,
        ready=row.ready,
        draining_own=row.draining_own,
        min_chunks=row.min_chunks,
        endpoint_ready=row.endpoint_ready,
        price_micro_per_chunk_hour=row.price_micro_per_chunk_hour,
        config_version=row.config_version,
        exists=row.exists,
    )
