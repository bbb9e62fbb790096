"""What an endpoint provides, as the ledger bills it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.controller.endpoint import Endpoint
from headrace.controller.lifecycle import Phase, Replica
from headrace.policy.billing import CapacityPoint


def capacity_point(endpoint: Endpoint, replicas: Sequence[Replica], at_ms: int) -> CapacityPoint:
    """What is billed from now on. What was never served is not sold: before the first config is active, nothing is."""
    config = endpoint.active or endpoint.target
    entity = config.entity
    ready = sum(r.phase is Phase.READY and r.runs_as == entity.runs_as for r in replicas)
    own = sum(r.phase is Phase.DRAINING and r.drain_cause == "scale_down" and r.ready_ms is not None for r in replicas)
    serves = endpoint.active is not None and not (endpoint.pending is None and endpoint.update == "IN_PROGRESS")
    return CapacityPoint(
        at_ms=at_ms,
        # More than the maximum is ready only while a roll-out prepares a larger range.
        ready=min(ready, entity.max_chunks) if endpoint.active else 0,
        draining_own=own if endpoint.active else 0,
        min_chunks=entity.min_chunks,
        endpoint_ready=serves and ready > 0,
        price_micro_per_chunk_hour=entity.price_micro,
        config_version=config.version,
    )
