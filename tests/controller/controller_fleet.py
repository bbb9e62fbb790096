"""A toy fleet, and a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction

from headrace.engines.base import ModelSettings
from headrace.fleet.base import FleetError, FleetReplica

T0_MS = 1_700_000_000_000


class TurnedClock:
    """Both clocks, turned by hand."""

    def __init__(self, ms: int = T0_MS) -> None:
        self.ms = ms

    def now(self) -> float:
        return self.ms / 1000

    def now_ms(self) -> int:
        return self.ms


class ToyFleet:
    """Replicas that load, serve and crash when they are told to."""

    def __init__(self, clock: TurnedClock, places: int) -> None:
        self.clock = clock
        self.places = places
        self.gpus = 0
        self.on_gpu: frozenset[str] = frozenset()
        """Names of models whose replicas need a GPU each."""
        self.runs: dict[str, str] = {}
        """Name of the model of each replica."""
        self.seen: dict[str, FleetReplica] = {}
        self.ready_at_once = False
        self.refuses: str | None = None
        """Why no replica can be started, where that is so."""
        self.while_starting: Callable[[], object] = lambda: None
        """What happens beside the next start, once."""
        self.started = 0

    def living(self) -> list[str]:
        return [replica.id for replica in self.seen.values() if replica.state != "exited"]

    def capacity(self, model: ModelSettings) -> int:
        fit = self.places // model.threads
        return min(fit, self.gpus) if model.name in self.on_gpu else fit

    def room(self, model: ModelSettings) -> int:
        fit = (self.places - len(self.living())) // model.threads
        gpus_taken = sum(self.runs[name] in self.on_gpu for name in self.living())
        return min(fit, self.gpus - gpus_taken) if model.name in self.on_gpu else fit

    def shares(self, model: ModelSettings) -> Mapping[str, Fraction]:
        places = {"places": Fraction(model.threads, self.places)}
        return places | {"gpus": Fraction(1, self.gpus)} if model.name in self.on_gpu else places

    def replicas(self) -> tuple[FleetReplica, ...]:
        return tuple(self.seen.values())

    async def start(
        self, replica: str, model: ModelSettings, *, labels: Mapping[str, str] | None = None
    ) -> FleetReplica:
        if self.refuses is not None:
            raise FleetError(self.refuses)
        assert self.room(model) > 0
        meanwhile, self.while_starting = self.while_starting, lambda: None
        meanwhile()
        self.started += 1
        self.runs[replica] = model.name
        self.seen[replica] = FleetReplica(
            id=replica, state="loading", url=None, secret="s", started_ms=self.clock.ms, labels=dict(labels or {})
        )
        if self.ready_at_once:
            self.load(replica)
        return self.seen[replica]

    async def stop(self, replica: str) -> None:
        self._end(replica, 0, "")

    async def log_tail(self, replica: str) -> str:
        if replica not in self.seen:
            raise FleetError(f"no replica {replica!r}")
        return f"{replica} says so"

    def load(self, *replicas: str) -> None:
        """Those that load have loaded: the named, or all."""
        for name in replicas or [r.id for r in self.seen.values() if r.state == "loading"]:
            self.seen[name] = replace(
                self.seen[name], state="ready", url=f"http://127.0.0.1/{name}", ready_ms=self.clock.ms, load_s=1.0
            )

    def crash(self, *replicas: str) -> None:
        """The named, or all that live."""
        for name in replicas or self.living():
            self._end(name, -9, "ended by SIGKILL")

    def forget(self) -> None:
        """As after a start of the machine."""
        self.seen.clear()

    def _end(self, name: str, code: int, error: str) -> None:
        self.seen[name] = replace(
            self.seen[name],
            state="exited",
            url=None,
            exited_ms=self.clock.ms,
            exit_code=code,
            error=error or None,
            tail="the last words",
        )
