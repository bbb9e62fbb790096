"""Replicas as processes of this machine, each on cores and GPUs of its own, started by the supervisor.

A fleet that opens finds the replicas that already run and takes them over: their ids, cores and labels come from the
supervisor, and their secrets are made again from the fleet's key, so that no secret of a replica is ever stored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import signal
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from headrace.engines.base import ModelSettings, ReplicaReport, ReplicaSpec
from headrace.engines.catalogue import engine_for
from headrace.fleet.base import Changed, FleetError, FleetReplica
from headrace.fleet.client import SupervisorClient
from headrace.fleet.gpus import visible_gpus
from headrace.fleet.protocol import Child, ChildSpec

KIND = "replica"
KEY_BYTES = 32
MOST_WITHOUT_CORES = 64
"""Replicas that need no core of their own; each is still a process."""
CORES, PLACES, GPUS = "cores", "places without cores", "gpus"
"""What replicas share; the last is a label too, of a replica that has GPUs: their numbers."""


def cores_needed(model: ModelSettings) -> int:
    """Cores that a replica has for itself. A simulated one computes nothing: it sleeps until its time has come."""
    return 0 if model.engine == "simulated" else model.threads


class LocalFleet:
    """The fleet of one machine."""

    def __init__(
        self,
        supervisor: Path,
        key: bytes,
        *,
        changed: Changed | None = None,
        cores: Iterable[int] | None = None,
        gpus: Iterable[int] | None = None,
    ) -> None:
        """``supervisor``: its socket. ``key``: see ``fleet_key``. ``cores``, ``gpus``: those to use; None for all we
        may use."""
        self.cores = tuple(sorted(os.sched_getaffinity(0) if cores is None else cores))
        self.gpus = visible_gpus() if gpus is None else tuple(gpus)
        self._key = key
        self._changed = changed
        self._children: dict[str, Child] = {}
        self._starting: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        """Cores and GPUs, by replica."""
        self._client = SupervisorClient(supervisor, self._on_child, self._on_list)

    async def open(self) -> None:
        """Connect to the supervisor and take over the replicas that run. Raises FleetError."""
        await self._client.open()

    async def close(self) -> None:
        """Disconnect; replicas keep running."""
        await self._client.close()

    def capacity(self, model: ModelSettings) -> int:
        """Replicas of the model that fit on all cores and GPUs of the fleet."""
        needed = cores_needed(model)
        fit = len(self.cores) // needed if needed else MOST_WITHOUT_CORES
        return min(fit, len(self.gpus) // model.gpus) if model.gpus else fit

    def room(self, model: ModelSettings) -> int:
        """Replicas of the model that fit on the cores and GPUs that are free now."""
        needed = cores_needed(model)
        if needed:
            fit = len(self._free_cores()) // needed
            return min(fit, len(self._free_gpus()) // model.gpus) if model.gpus else fit
        return MOST_WITHOUT_CORES - sum(
            child.kind == KIND and not child.cpus and child.exited_ms is None for child in self._children.values()
        )

    def shares(self, model: ModelSettings) -> Mapping[str, Fraction]:
        """Of the cores and the GPUs; of replicas that need none only the number is limited."""
        needed = cores_needed(model)
        shares = {CORES: Fraction(needed, len(self.cores))} if needed else {PLACES: Fraction(1, MOST_WITHOUT_CORES)}
        if model.gpus:
            # Where there are none, one replica takes more than all.
            shares[GPUS] = Fraction(model.gpus, len(self.gpus)) if self.gpus else Fraction(2)
        return shares

    def replicas(self) -> tuple[FleetReplica, ...]:
        """All that run, and those that exited not long ago."""
        return tuple(self._replica(child) for child in self._children.values() if child.kind == KIND)

    def processes(self) -> tuple[Child, ...]:
        """Every child that the supervisor told of, its own services included."""
        return tuple(self._children.values())

    async def start(
        self,
        replica: str,
        model: ModelSettings,
        *,
        labels: Mapping[str, str] | None = None,
        cache_prompts: bool = True,
    ) -> FleetReplica:
        """Start a replica on free cores and GPUs; one of that id that exists is returned as it is.

        Raises FleetError (none free, no supervisor) and EngineError (the model cannot run).
        """
        known = self._children.get(replica)
        if known is not None:
            return self._replica(known)
        if replica in self._starting:
            raise FleetError(f"replica {replica} is being started already")
        engine = engine_for(model.engine)
        engine.check(model)
        cpus, gpus = self._take_cores(model), self._take_gpus(model)
        spec = ReplicaSpec(
            replica=replica,
            model=model,
            secret=self._secret(replica),
            cpus=cpus,
            gpus=gpus,
            cache_prompts=cache_prompts,
        )
        self._starting[replica] = cpus, gpus
        try:
            child = await self._client.start(
                ChildSpec(
                    token=replica,
                    kind=KIND,
                    # By core, not by replica: the number of log files stays bounded.
                    name="-".join(("replica", "cpu", *map(str, cpus))) if cpus else "replica",
                    argv=engine.argv(model),
                    stdin=msgspec.json.encode(spec).decode(),
                    cpus=cpus,
                    labels=dict(labels or {}) | ({GPUS: ",".join(map(str, gpus))} if gpus else {}),
                )
            )
        finally:
            del self._starting[replica]
        # An event may have told of it already, and of more than this answer.
        return self._replica(self._children.setdefault(replica, child))

    async def stop(self, replica: str, grace_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL; returns when the process has ended. Raises FleetError."""
        await self._client.stop(replica, grace_s)

    async def log_tail(self, replica: str) -> str:
        """The last lines that a replica wrote, also while it runs. Raises FleetError."""
        return (await self._client.look(replica)).tail

    def _free_cores(self) -> tuple[int, ...]:
        # Every child counts that has cores of its own, whoever asked for it, until it has exited.
        taken = {core for child in self._children.values() if child.exited_ms is None for core in child.cpus}
        taken |= {core for cpus, _ in self._starting.values() for core in cpus}
        return tuple(core for core in self.cores if core not in taken)

    def _free_gpus(self) -> tuple[int, ...]:
        living = [child for child in self._children.values() if child.exited_ms is None]
        taken = {int(gpu) for child in living for gpu in child.labels.get(GPUS, "").split(",") if gpu}
        taken |= {gpu for _, gpus in self._starting.values() for gpu in gpus}
        return tuple(gpu for gpu in self.gpus if gpu not in taken)

    def _take_gpus(self, model: ModelSettings) -> tuple[int, ...]:
        free = self._free_gpus()
        if len(free) < model.gpus:
            raise FleetError(
                f"a replica of {model.name} needs {model.gpus} GPUs of its own; "
                f"{len(free)} of {len(self.gpus)} are free"
            )
        return free[: model.gpus]

    def _take_cores(self, model: ModelSettings) -> tuple[int, ...]:
        needed, free = cores_needed(model), self._free_cores()
        if len(free) < needed:
            raise FleetError(
                f"a replica of {model.name} needs {needed} cores of its own; {len(free)} of {len(self.cores)} are free"
            )
        return free[:needed]

    def _secret(self, replica: str) -> str:
        return hmac.new(self._key, replica.encode(), hashlib.sha256).hexdigest()

    def _on_list(self, children: tuple[Child, ...]) -> None:
        self._children = {child.token: child for child in children}
        for child in children:
            self._tell(child)

    def _on_child(self, child: Child) -> None:
        self._children[child.token] = child
        self._tell(child)

    def _tell(self, child: Child) -> None:
        if self._changed is not None and child.kind == KIND:
            self._changed(self._replica(child))

    def _replica(self, child: Child) -> FleetReplica:
        report = _report(child.report)
        ready = report is not None and report.state == "ready"
        exited = child.exited_ms is not None
        return FleetReplica(
            id=child.token,
            state="exited" if exited else "ready" if ready else "loading",
            url=report.url if report is not None and ready else None,
            secret=self._secret(child.token),
            cpus=child.cpus,
            pid=child.pid,
            started_ms=child.started_ms,
            ready_ms=child.reported_ms if ready else None,
            exited_ms=child.exited_ms,
            exit_code=child.exit_code,
            error=_why(child, report),
            tail=child.tail,
            load_s=None if report is None else report.load_s,
            engine_version=None if report is None else report.engine_version,
            labels=child.labels,
        )


def _report(report: dict[str, Any] | None) -> ReplicaReport | None:
    try:
        return None if report is None else msgspec.convert(report, ReplicaReport)
    except msgspec.ValidationError:
        return None


def _why(child: Child, report: ReplicaReport | None) -> str | None:
    """Why a replica is no more, in words."""
    if report is not None and report.error is not None:
        return report.error
    if child.exit_code is None:
        return None
    if child.exit_code < 0:
        try:
            name = signal.Signals(-child.exit_code).name
        except ValueError:
            name = f"signal {-child.exit_code}"
        return f"ended by {name}"
    return f"exited with code {child.exit_code}"


def fleet_key(path: Path) -> bytes:
    """The key that replicas' secrets are made from: read from ``path``, and made there the first time (mode 0600)."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        try:
            os.link(partial, path)  # whole, and only if nobody was quicker
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        return path.read_bytes()
