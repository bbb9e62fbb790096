"""What every fleet can do, and what it tells of a replica."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

from headrace.engines.base import ModelSettings


class FleetError(Exception):
    """A replica cannot be started or stopped; the message says why."""


@dataclass(frozen=True, slots=True)
class FleetReplica:
    """A replica as its fleet knows it now."""

    id: str
    state: Literal["loading", "ready", "exited"]
    url: str | None
    """Base URL; None until it is ready."""
    secret: str = field(repr=False)
    """Bearer token that it asks for; empty for none."""
    cpus: tuple[int, ...] = ()
    pid: int | None = None
    started_ms: int = 0
    """Unix time, as the next two."""
    ready_ms: int | None = None
    exited_ms: int | None = None
    exit_code: int | None = None
    """Negative: ended by that signal."""
    error: str | None = None
    """Why it is not ready, where it is known."""
    tail: str = ""
    """Last lines of its log, once it has exited."""
    load_s: float | None = None
    """Start of the process to ready."""
    engine_version: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """As they were given at its start."""


Changed = Callable[[FleetReplica], None]
"""Told of every change of every replica, in the event loop."""


class Fleet(Protocol):
    """Where replicas run."""

    async def open(self) -> None:
        """Connect; afterwards ``replicas`` holds those that already ran. Raises FleetError."""

    async def close(self) -> None:
        """Let go; replicas keep running."""

    def capacity(self, model: ModelSettings) -> int:
        """Replicas of the model that fit when nothing else runs here."""

    def room(self, model: ModelSettings) -> int:
        """Replicas of the model that could be started now."""

    def shares(self, model: ModelSettings) -> Mapping[str, Fraction]:
        """Part that one replica of the model takes of each thing that replicas share here, by its name: cores, GPUs, a
        server. More than 1 where not even one replica fits."""

    def replicas(self) -> tuple[FleetReplica, ...]:
        """All that run, and those that exited not long ago."""

    async def start(
        self,
        replica: str,
        model: ModelSettings,
        *,
        labels: Mapping[str, str] | None = None,
        cache_prompts: bool = True,
    ) -> FleetReplica:
        """Start a replica under an id that names it for good; one that exists is returned as it is.

        It is not ready yet when this returns. Raises FleetError, and EngineError where the model cannot run.
        """

    async def stop(self, replica: str, grace_s: float = 5.0) -> None:
        """End a replica; returns when it has ended. Raises FleetError."""

    async def log_tail(self, replica: str) -> str:
        """The last lines of what a replica wrote, also while it runs. Raises FleetError."""
