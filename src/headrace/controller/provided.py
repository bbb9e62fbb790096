"""What the served entities of an endpoint provide, as the ledger bills it: each on a timeline of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import Phase, Replica
from headrace.policy.billing import CapacityPoint


def capacity_points(
    endpoint: Endpoint, replicas: Sequence[Replica], newest: Mapping[str, CapacityPoint], at_ms: int
) -> dict[str, CapacityPoint]:
    """What is billed from now on, by entity id. ``newest``: the last point of each entity that the endpoint ever had.

    An entity that a config replaced ends here; only what still drains after our own scale-down is billed to its end, at
    the price that it was sold at.
    """
    sold = {one.id: _sold(endpoint, one, replicas, newest.get(one.id), at_ms) for one in endpoint.current.entities}
    for entity_id, point in newest.items():
        if entity_id not in sold and point.exists:
            draining = _draining(entity_id, replicas)
            gone = ended(point, at_ms)
            sold[entity_id] = replace(gone, draining_own=draining, exists=True) if draining else gone
    return sold


def ended(newest: CapacityPoint, at_ms: int) -> CapacityPoint:
    """What follows the last point of what is no more."""
    return replace(newest, at_ms=at_ms, ready=0, draining_own=0, min_chunks=0, endpoint_ready=False, exists=False)


def _sold(
    endpoint: Endpoint, entity: Entity, replicas: Sequence[Replica], before: CapacityPoint | None, at_ms: int
) -> CapacityPoint:
    """What was never served is not sold: before the first config is active, nothing is."""
    active = endpoint.active is not None
    ready = sum(r.phase is Phase.READY and r.runs_as == entity.runs_as for r in replicas)
    going_on = active and endpoint.pending is None and endpoint.update == "IN_PROGRESS"
    # What an update takes away before it takes over is not billed, nor after it has failed until it is back.
    taken = _gives_way(endpoint, entity) or (
        endpoint.update == "UPDATE_FAILED" and before is not None and not before.endpoint_ready
    )
    serves = active and not going_on and not (taken and ready < entity.min_chunks)
    return CapacityPoint(
        at_ms=at_ms,
        # More than the maximum is ready only while a roll-out prepares a larger range.
        ready=min(ready, entity.max_chunks) if active else 0,
        draining_own=_draining(entity.id, replicas) if active else 0,
        min_chunks=entity.min_chunks,
        # Of the entity: where it alone has no replica, its own minimum is not billed, whatever the others serve.
        endpoint_ready=serves and ready > 0,
        price_micro_per_chunk_hour=entity.price_micro,
        config_version=endpoint.current.version,
    )


def _gives_way(endpoint: Endpoint, entity: Entity) -> bool:
    """An update leaves it less than its minimum, and may need the places of the rest now."""
    left = (one.min_chunks for one in endpoint.target.entities if one.runs_as == entity.runs_as)
    return endpoint.pending is not None and next(left, 0) < entity.min_chunks


def _draining(entity_id: str, replicas: Sequence[Replica]) -> int:
    """After our own scale-down, having served."""
    return sum(
        r.phase is Phase.DRAINING
        and r.drain_cause == "scale_down"
        and r.ready_ms is not None
        and r.entity_id == entity_id
        for r in replicas
    )
