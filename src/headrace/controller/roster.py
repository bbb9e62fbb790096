"""The replicas that were asked for and are not gone: in memory, and in the store for the controller's own restart.

The last ones that ended are remembered too, for people who ask what became of them.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Collection

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import DrainCause, Phase, Replica
from headrace.controller.tables import ReplicaRow
from headrace.ledger.database import Database

MOST_ENDED = 8
"""Of each endpoint."""

_ITS_ROW = ReplicaRow.id == bindparam("its_id")
_FORGET = delete(ReplicaRow).where(_ITS_ROW)
_CHANGE = (
    update(ReplicaRow)
    .where(_ITS_ROW)
    .values(ready_ms=bindparam("ready"), draining_ms=bindparam("draining"), drain_cause=bindparam("cause"))
)


class Roster:
    """All living replicas. Only the reconcile loop writes it."""

    def __init__(self, database: Database, entity_of: Callable[[str, int, str], Entity | None]) -> None:
        """``entity_of``: (endpoint id, config version, entity id) -> the terms that a replica was started for."""
        self._database = database
        self._entity_of = entity_of
        self._replicas: dict[str, Replica] = {}
        self._by_endpoint: dict[str, dict[str, Replica]] = {}
        self._ended: dict[str, deque[Replica]] = {}
        self.reload()

    def reload(self) -> None:
        """Forget what is in memory for what is in the store, as a controller does that starts."""
        self._replicas, self._by_endpoint = {}, {}
        with self._database.read() as session:
            for row in session.scalars(select(ReplicaRow).order_by(ReplicaRow.created_ms, ReplicaRow.id)):
                entity = self._entity_of(row.endpoint_id, row.config_version, row.entity_id)
                if entity is not None:
                    self._add(_restore(row, entity))

    def all(self) -> list[Replica]:
        return list(self._replicas.values())

    def of(self, endpoint_id: str) -> list[Replica]:
        return list(self._by_endpoint.get(endpoint_id, {}).values())

    def ended(self, endpoint_id: str) -> list[Replica]:
        """The last ones that ended in this controller's life, newest last."""
        return list(self._ended.get(endpoint_id, ()))

    def knows(self, replica_id: str) -> bool:
        return replica_id in self._replicas

    def new(self, endpoint: Endpoint, entity: Entity, now_ms: int) -> Replica:
        """One of the target config, written before the fleet is asked: no process can run that nobody knows of."""
        replica = Replica(
            id=f"{endpoint.name}-{secrets.token_hex(4)}",
            endpoint_id=endpoint.id,
            config_version=endpoint.target.version,
            entity_id=entity.id,
            runs_as=entity.runs_as,
            model=entity.model,
            created_ms=now_ms,
        )
        with self._database.write() as session:
            session.execute(
                insert(ReplicaRow).values(
                    id=replica.id,
                    endpoint_id=replica.endpoint_id,
                    config_version=replica.config_version,
                    entity_id=replica.entity_id,
                    runs_as=replica.runs_as,
                    created_ms=now_ms,
                )
            )
        self._add(replica)
        return replica

    def save(self, replica: Replica) -> None:
        """What must be known after a restart; a replica that has ended is forgotten."""
        ended = replica.phase in (Phase.STOPPED, Phase.FAILED)
        now = {
            "its_id": replica.id,
            "ready": replica.ready_ms,
            "draining": replica.draining_ms,
            "cause": replica.drain_cause,
        }
        with self._database.write() as session:
            # Past the ORM, as a look may find many of them changed.
            session.connection().execute(_FORGET if ended else _CHANGE, now)
        if ended:
            del self._replicas[replica.id], self._by_endpoint[replica.endpoint_id][replica.id]
            self._ended.setdefault(replica.endpoint_id, deque(maxlen=MOST_ENDED)).append(replica)

    def keep(self, endpoint_ids: Collection[str]) -> None:
        """Forget what ended of all other endpoints."""
        for gone in self._ended.keys() - set(endpoint_ids):
            del self._ended[gone]

    def _add(self, replica: Replica) -> None:
        self._replicas[replica.id] = replica
        self._by_endpoint.setdefault(replica.endpoint_id, {})[replica.id] = replica


def _restore(row: ReplicaRow, entity: Entity) -> Replica:
    phase = (
        Phase.DRAINING if row.draining_ms is not None else Phase.READY if row.ready_ms is not None else Phase.PENDING
    )
    return Replica(
        id=row.id,
        endpoint_id=row.endpoint_id,
        config_version=row.config_version,
        entity_id=entity.id,
        runs_as=row.runs_as,
        model=entity.model,
        created_ms=row.created_ms,
        phase=phase,
        ready_ms=row.ready_ms,
        draining_ms=row.draining_ms,
        drain_cause=msgspec.convert(row.drain_cause, DrainCause | None),
    )
