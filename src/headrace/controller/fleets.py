"""The fleets of one server as one: processes of this machine, and servers that already run."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from headrace.engines.base import ModelSettings
from headrace.fleet.base import Fleet, FleetError, FleetReplica


class Fleets:
    """Sends each ask to the fleet that runs models of its engine."""

    def __init__(self, local: Fleet, static: Fleet) -> None:
        self._local = local
        self._static = static

    async def open(self) -> None:
        """Raises FleetError."""
        await self._local.open()
        await self._static.open()

    async def close(self) -> None:
        await self._static.close()
        await self._local.close()

    def capacity(self, model: ModelSettings) -> int:
        return self._of(model).capacity(model)

    def room(self, model: ModelSettings) -> int:
        return self._of(model).room(model)

    def shares(self, model: ModelSettings) -> Mapping[str, Fraction]:
        return self._of(model).shares(model)

    def replicas(self) -> tuple[FleetReplica, ...]:
        return self._local.replicas() + self._static.replicas()

    async def start(
        self, replica: str, model: ModelSettings, *, labels: Mapping[str, str] | None = None, cache_prompts: bool = True
    ) -> FleetReplica:
        return await self._of(model).start(replica, model, labels=labels, cache_prompts=cache_prompts)

    async def stop(self, replica: str, grace_s: float = 5.0) -> None:
        """Raises FleetError."""
        for fleet in (self._local, self._static):
            if any(known.id == replica for known in fleet.replicas()):
                await fleet.stop(replica, grace_s)
                return
        raise FleetError(f"no replica {replica!r}")

    async def log_tail(self, replica: str) -> str:
        """Raises FleetError."""
        for fleet in (self._local, self._static):
            if any(known.id == replica for known in fleet.replicas()):
                return await fleet.log_tail(replica)
        raise FleetError(f"no replica {replica!r}")

    def _of(self, model: ModelSettings) -> Fleet:
        return self._static if model.engine == "openai" else self._local
