"""The replicas that were asked for and are not gone: in memory, and in the store for the controller's own restart."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec
from sqlalchemy import select

from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import DrainCause, Phase, Replica
from headrace.controller.tables import ReplicaRow
from headrace.ledger.database import Database


class Roster:
    """All living replicas. Only the reconcile loop writes it."""

    def __init__(self, database: Database, entity_of: Callable[[str, int, str], Entity | None]) -> None:
        """``entity_of``: (endpoint id, config version, entity id) -> the terms that a replica was started for."""
        self._database = database
        self._replicas: dict[str, Replica] = {}
        with database.read() as session:
            for row in session.scalars(select(ReplicaRow).order_by(ReplicaRow.created_ms, ReplicaRow.id)):
                entity = entity_of(row.endpoint_id, row.config_version, row.entity_id)
                if entity is not None:
                    self._replicas[row.id] = _restore(row, entity)

    def all(self) -> list[Replica]:
        return list(self._replicas.values())

    def of(self, endpoint_id: str) -> list[Replica]:
        return [replica for replica in self._replicas.values() if replica.endpoint_id == endpoint_id]

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
            session.add(
                ReplicaRow(
                    id=replica.id,
                    endpoint_id=replica.endpoint_id,
                    config_version=replica.config_version,
                    entity_id=replica.entity_id,
                    runs_as=replica.runs_as,
                    created_ms=now_ms,
                    ready_ms=None,
                    draining_ms=None,
                    drain_cause=None,
                )
            )
        self._replicas[replica.id] = replica
        return replica

    def save(self, replica: Replica) -> None:
        """What must be known after a restart; a replica that has ended is forgotten."""
        ended = replica.phase in (Phase.STOPPED, Phase.FAILED)
        with self._database.write() as session:
            row = session.get_one(ReplicaRow, replica.id)
            if ended:
                session.delete(row)
            else:
                row.ready_ms, row.draining_ms, row.drain_cause = (
                    replica.ready_ms,
                    replica.draining_ms,
                    replica.drain_cause,
                )
        if ended:
            del self._replicas[replica.id]


def _restore(row: ReplicaRow, entity: Entity) -> Replica:
    phase = (
        Phase.DRAINING if row.draining_ms is not None else Phase.READY if row.ready_ms is not None else Phase.LOADING
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
