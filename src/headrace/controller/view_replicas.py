"""What the replicas of an endpoint look like from outside: each of them, and the last that failed."""

from __future__ import annotations

import msgspec

from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint
from headrace.controller.lifecycle import Replica


class ReplicaInfo(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    entity: str
    """Name of the served entity."""
    state: str
    """``pending``, ``loading``, ``ready``, ``draining``, ``stopped`` or ``failed``."""
    pid: int | None
    cpus: tuple[int, ...]
    slots: int
    in_flight: int
    config_version: int
    created_ms: int
    ready_ms: int | None
    draining_ms: int | None
    drain_cause: str | None
    load_s: float | None
    ended_ms: int | None
    exit_code: int | None
    message: str


class FailureInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The last failure of a replica."""

    entity: str
    """Name."""
    at_ms: int
    in_a_row: int
    message: str
    log_tail: str
    next_start_ms: int


def replica_info(controller: Controller, endpoint: Endpoint, replica: Replica) -> ReplicaInfo:
    started_for = (endpoint.id, replica.config_version, replica.entity_id)
    entity = endpoint.entities.get(replica.entity_id) or controller.store.entity(*started_for)
    return ReplicaInfo(
        id=replica.id,
        entity=entity.name if entity is not None else "",
        state=replica.phase.value,
        pid=replica.pid,
        cpus=replica.cpus,
        slots=replica.model.slots,
        in_flight=controller.gateways.in_flight(replica.id),
        config_version=replica.config_version,
        created_ms=replica.created_ms,
        ready_ms=replica.ready_ms,
        draining_ms=replica.draining_ms,
        drain_cause=replica.drain_cause,
        load_s=replica.load_s,
        ended_ms=replica.ended_ms,
        exit_code=replica.exit_code,
        message=replica.message,
    )


def last_failure(controller: Controller, endpoint: Endpoint) -> FailureInfo | None:
    failures = [
        FailureInfo(
            entity=entity.name,
            at_ms=backoff.at_ms,
            in_a_row=backoff.failures,
            message=backoff.message,
            log_tail=backoff.tail,
            next_start_ms=backoff.not_before_ms,
        )
        for entity in endpoint.entities.values()
        if (backoff := controller.reconciler.watches.of(entity.id).backoff).failures
    ]
    return max(failures, key=lambda failure: failure.at_ms, default=None)
