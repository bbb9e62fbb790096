"""What the reconcile loop tells: events with their reasons, and the capacity that the ledger bills. Decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.controller.backoff import Backoff
from headrace.controller.endpoint import Config, Endpoint, Entity
from headrace.controller.events import EventLog, Kind
from headrace.controller.lifecycle import Phase, Replica
from headrace.controller.provided import capacity_points
from headrace.controller.rollout import Advance
from headrace.controller.roster import Roster
from headrace.controller.store import Store
from headrace.controller.watches import Watch
from headrace.controller.words import about, counted, named
from headrace.ledger.capacity import CapacityTimeline
from headrace.policy.scaling import Decision

log = logging.getLogger(__name__)


class Telling:
    """Writes events and capacity points. An entity is named where its endpoint has several."""

    def __init__(self, *, store: Store, roster: Roster, events: EventLog, timeline: CapacityTimeline) -> None:
        self._store = store
        self._roster = roster
        self._events = events
        self._timeline = timeline

    def replica(self, replica: Replica, at_ms: int, backoff: Backoff) -> None:
        """It has come to another phase of its life."""
        data = {"replica": replica.id, "pid": replica.pid, "cpus": list(replica.cpus)}
        match replica.phase:
            case Phase.READY:
                took = f" in {replica.load_s:.1f} s" if replica.load_s is not None else ""
                self._of_replica(replica, at_ms, "replica_ready", f"is ready{took}", data)
            case Phase.STOPPED:
                self._of_replica(replica, at_ms, "replica_stopped", "has ended", data)
            case Phase.FAILED:
                data |= {
                    "exit_code": replica.exit_code,
                    "failures": backoff.failures,
                    "next_start_ms": backoff.not_before_ms,
                    "tail": backoff.tail,
                }
                row = f"; failure {backoff.failures} in a row" if backoff.failures > 1 else ""
                again = f"{row}; the next start is in {max(0, backoff.not_before_ms - at_ms) / 1000:.0f} s"
                self._of_replica(replica, at_ms, "replica_failed", f"failed: {replica.message}{again}", data)

    def silent(self, replica: Replica, at_ms: int) -> None:
        """It loads, or loads again, with something wrong."""
        self._of_replica(replica, at_ms, "replica_failed", f"failed: {replica.message}", {"replica": replica.id})

    def scaled(self, endpoint: Endpoint, entity: Entity, decision: Decision, at_ms: int) -> None:
        """Another number of chunks was decided. ``data.inputs`` recompute it."""
        data = {
            "entity": entity.name,
            "from": decision.inputs["state"]["target"],
            "to": decision.chunks,
            "reason": decision.reason,
            "inputs": decision.inputs,
        }
        self._event(endpoint.id, at_ms, "scaled", about(endpoint.current, entity, decision.reason), data)

    def place_taken(
        self, endpoint: Endpoint, entity: Entity, watch: Watch, takers: Sequence[tuple[Endpoint, Entity]], at_ms: int
    ) -> None:
        """It is to give up what runs, although it wants it."""
        needs = [
            f"{_named(other, one)} needs its minimum of {counted(one.min_chunks, 'chunk')}" for other, one in takers
        ]
        why = " and ".join(needs) or "the machine has become smaller"
        message = f"down to {counted(watch.granted, 'chunk')}, though it should have {watch.wanted}: {why}"
        data = {
            "entity": entity.name,
            "granted": watch.granted,
            "wanted": watch.wanted,
            "to": [named(other.name, other.target, one) for other, one in takers],
        }
        self._event(endpoint.id, at_ms, "place_taken", about(endpoint.target, entity, message), data)

    def places_missing(self, endpoint: Endpoint, entity: Entity, watch: Watch, at_ms: int) -> None:
        """It should have more chunks than the machine holds beside the others: those above stay pending."""
        pending = watch.wanted - watch.granted
        holders = " and ".join(watch.rivals)
        rest = f"{holders} {'has' if len(watch.rivals) == 1 else 'have'} the rest" if holders else "it holds no more"
        message = (
            f"{counted(pending, 'chunk')} of {watch.wanted} {'is' if pending == 1 else 'are'} pending: the machine has "
            f"room for {counted(watch.granted, 'replica')} of {entity.model.name} here, and {rest}"
        )
        data = {
            "entity": entity.name,
            "granted": watch.granted,
            "wanted": watch.wanted,
            "pending": pending,
            "holders": list(watch.rivals),
        }
        self._event(endpoint.id, at_ms, "chunks_pending", about(endpoint.target, entity, message), data)

    def activated(self, endpoint: Endpoint, config: Config, advance: Advance, at_ms: int) -> None:
        how = "is active" if advance.conclude else "is active with what of it is ready, as both do not fit the machine"
        data = {"config_version": config.version}
        self._event(endpoint.id, at_ms, "config_active", f"config version {config.version} {how}", data)

    def update_failed(self, endpoint: Endpoint, why: str, tail: str, at_ms: int) -> None:
        """``tail``: the last lines of the log of the replica that failed last."""
        if endpoint.active is None:
            kept = "; it is tried again"
        elif endpoint.pending is None:
            kept = (
                f"; config version {endpoint.active.version} serves with what of it is ready, and the rest is tried on"
            )
        else:
            kept = f"; config version {endpoint.active.version} stays"
        data = {"config_version": endpoint.target.version, "tail": tail}
        self._event(endpoint.id, at_ms, "config_failed", f"{why}{kept}", data)

    def capacity(self, endpoint_id: str, at_ms: int) -> None:
        """What the endpoint provides from now on, as far as it has changed."""
        endpoint = self._store.get(endpoint_id)
        if endpoint is not None:
            replicas, newest = self._roster.of(endpoint_id), self._timeline.newest(endpoint_id)
            for entity, point in capacity_points(endpoint, replicas, newest, at_ms).items():
                self._timeline.note(endpoint_id, entity, point)

    def _of_replica(self, replica: Replica, at_ms: int, kind: Kind, what: str, data: Mapping[str, Any]) -> None:
        endpoint = self._store.get(replica.endpoint_id)
        entity = endpoint.entities.get(replica.entity_id) if endpoint is not None else None
        several = endpoint is not None and len(endpoint.target.entities) > 1
        whose = f" of {entity.name}" if entity is not None and several else ""
        told = {**data, "entity": entity.name} if entity is not None else data
        self._event(replica.endpoint_id, at_ms, kind, f"replica {replica.id}{whose} {what}", told)

    def _event(self, endpoint_id: str, at_ms: int, kind: Kind, message: str, data: Mapping[str, Any]) -> None:
        endpoint = self._store.get(endpoint_id)
        name = endpoint.name if endpoint else self._store.names().get(endpoint_id, "")
        self._events.add(at_ms, kind, message, endpoint=(endpoint_id, name), data=dict(data))
        log.info(message, extra={"fields": {"endpoint": name, "event": kind}})


def _named(endpoint: Endpoint, entity: Entity) -> str:
    noun = "endpoint" if len(endpoint.target.entities) == 1 else "served entity"
    return f"{noun} {named(endpoint.name, endpoint.target, entity)}"
