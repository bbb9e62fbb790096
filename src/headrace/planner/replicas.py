"""The replicas of an endpoint, started, drained and ended as the reconcile loop does it, and what of them is billed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from headrace.planner.batching import Batch
from headrace.planner.result import Moment
from headrace.policy.billing import CapacityPoint
from headrace.policy.observing import Chunks
from headrace.policy.routing import ReplicaState
from headrace.policy.terms import Terms
from headrace.profiles.profile import IterationTime


class Replica:
    """``in_flight`` counts the requests on it."""

    __slots__ = ("batch", "draining", "id", "in_flight", "number", "ready")

    def __init__(self, number: int, model: IterationTime) -> None:
        self.number = number
        self.id = f"r{number:06}"
        self.batch = Batch(model)
        self.ready = False
        self.draining = False
        self.in_flight = 0


class Replicas:
    """Asked for at once; ready after their start-up time."""

    def __init__(
        self,
        terms: Terms,
        model: IterationTime,
        price_micro: int,
        start: Callable[[Replica], None],
    ) -> None:
        """``start``: lets ``ready`` be called when the start-up time is over."""
        self._terms = terms
        self._model = model
        self._price_micro = price_micro
        self._start = start
        self._numbers = count(1)
        self._replicas: dict[str, Replica] = {}
        self.moments: list[Moment] = []
        self.points: list[CapacityPoint] = []

    def __getitem__(self, replica_id: str) -> Replica:
        return self._replicas[replica_id]

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas.values())

    def begin(self, ready: int) -> None:
        """So many have been ready before the beginning."""
        for _ in range(ready):
            self._new().ready = True
        self._note(0.0)

    def ready(self, now: float, replica: Replica) -> bool:
        """Its start-up time is over; False where it was given up before."""
        if replica.id not in self._replicas:
            return False
        replica.ready = True
        self._note(now)
        return True

    def resize(self, now: float, chunks: int) -> bool:
        """Have so many, starting and ready together; whether which ones take requests has changed by that."""
        ours = [replica for replica in self._replicas.values() if not replica.draining]
        missing = chunks - len(ours)
        if missing > 0:
            # One that still finishes its requests serves again sooner than any can start.
            revived = [replica for replica in self._replicas.values() if replica.draining][:missing]
            for replica in revived:
                replica.draining = False
            for _ in range(missing - len(revived)):
                self._start(self._new())
            self._note(now)
            return bool(revived)
        # Those that serve nothing yet go first, then those with the least to finish; of equals the youngest.
        ours.sort(key=lambda replica: (replica.ready, replica.in_flight, -replica.number))
        for replica in ours[: len(ours) - chunks]:
            if replica.ready:
                replica.draining = True
            else:
                del self._replicas[replica.id]
        if missing < 0:
            self._note(now)
        return missing < 0

    def end_drained(self, now: float) -> bool:
        """End those that drain and have no request left; whether there were any."""
        drained = [replica.id for replica in self._replicas.values() if replica.draining and not replica.in_flight]
        for replica_id in drained:
            del self._replicas[replica_id]
        if drained:
            self._note(now)
        return bool(drained)

    def states(self) -> list[ReplicaState]:
        """As a snapshot tells a gateway."""
        return [
            ReplicaState(replica.id, self._terms.slots, replica.draining)
            for replica in self._replicas.values()
            if replica.ready
        ]

    def chunks(self) -> Chunks:
        replicas = self._replicas.values()
        draining = sum(replica.draining for replica in replicas)
        ready = sum(replica.ready for replica in replicas) - draining
        return Chunks(ready=ready, pending=len(replicas) - ready - draining, draining=draining)

    def _new(self) -> Replica:
        replica = Replica(next(self._numbers), self._model)
        self._replicas[replica.id] = replica
        return replica

    def _note(self, now: float) -> None:
        chunks = self.chunks()
        self.moments.append(Moment(now, chunks.ready, chunks.pending, chunks.draining))
        served = self.points[-1].endpoint_ready if self.points else False
        self.points.append(
            CapacityPoint(
                at_ms=round(now * 1000),
                ready=chunks.ready,
                draining_own=chunks.draining,
                min_chunks=self._terms.min_chunks,
                # Ready once its minimum has served; nothing fails here.
                endpoint_ready=served or chunks.ready >= self._terms.min_chunks,
                price_micro_per_chunk_hour=self._price_micro,
                config_version=1,
            )
        )
