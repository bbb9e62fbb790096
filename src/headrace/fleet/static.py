"""Servers that already run, each as one replica: nothing is started, its health is asked for again and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from headrace.engines.base import ModelSettings
from headrace.engines.openai import OpenAIEngine, problem_of
from headrace.fleet.base import Changed, FleetError, FleetReplica

ASK_EVERY_S = 2.0


class StaticFleet:
    """Replicas of models of the engine ``openai``; one server is one replica."""

    def __init__(self, *, changed: Changed | None = None, every_s: float = ASK_EVERY_S) -> None:
        self._changed = changed
        self._every_s = every_s
        self._replicas: dict[str, FleetReplica] = {}
        self._urls: dict[str, str] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """There is nothing to connect to, and nothing to take over: who runs the servers starts them."""

    async def close(self) -> None:
        for replica in list(self._watches):
            await self.stop(replica)

    def capacity(self, model: ModelSettings) -> int:
        """The servers at the model's URLs."""
        return len(model.urls)

    def room(self, model: ModelSettings) -> int:
        """Those of them that no replica stands for, of this model or of another one."""
        return len(self._free(model))

    def shares(self, model: ModelSettings) -> Mapping[str, Fraction]:
        """Of the servers of the model, which go by the URL of the first."""
        return {url: Fraction(1, len(model.urls)) for url in model.urls[:1]}

    def replicas(self) -> tuple[FleetReplica, ...]:
        return tuple(self._replicas.values())

    async def start(
        self,
        replica: str,
        model: ModelSettings,
        *,
        labels: Mapping[str, str] | None = None,
        cache_prompts: bool = True,
    ) -> FleetReplica:
        """Watch one of the model's servers as a replica. ``cache_prompts`` is that server's own to decide.

        Raises FleetError where a replica stands for each of them, and EngineError for settings that cannot work.
        """
        if replica in self._replicas:
            return self._replicas[replica]
        engine = OpenAIEngine()
        engine.check(model)
        secret = engine.key(model)
        free = self._free(model)
        if not free:
            servers = " and ".join(model.urls)
            one = "is one replica" if len(model.urls) == 1 else f"are {len(model.urls)} replicas"
            raise FleetError(f"{servers} {one} of {model.name}, and there is no other")
        self._urls[replica] = free[0]
        self._replicas[replica] = FleetReplica(
            id=replica,
            state="loading",
            url=None,
            secret=secret,
            started_ms=_now_ms(),
            labels=dict(labels or {}),
        )
        self._watches[replica] = asyncio.create_task(self._watch(replica, model.upstream_model))
        return self._replicas[replica]

    async def stop(self, replica: str, grace_s: float = 5.0) -> None:
        """Stop watching; the server itself runs on."""
        watch = self._watches.pop(replica, None)
        if watch is None:
            raise FleetError(f"no replica {replica!r}")
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        del self._urls[replica]
        gone = replace(self._replicas.pop(replica), state="exited", url=None, exited_ms=_now_ms())
        self._tell(gone)

    async def log_tail(self, replica: str) -> str:
        """What is wrong with it, if anything: the log of a server that is not ours is its own. Raises FleetError."""
        known = self._replicas.get(replica)
        if known is None:
            raise FleetError(f"no replica {replica!r}")
        return known.error or ""

    def _free(self, model: ModelSettings) -> list[str]:
        return [url for url in model.urls if url not in self._urls.values()]

    async def _watch(self, replica: str, upstream_model: str | None) -> None:
        while True:
            before = self._replicas[replica]
            problem = await asyncio.to_thread(problem_of, self._urls[replica], before.secret, upstream_model)
            if problem is None and before.state != "ready":
                after = replace(before, state="ready", url=self._urls[replica], ready_ms=_now_ms(), error=None)
            elif problem is not None and (before.state != "loading" or before.error != problem):
                after = replace(before, state="loading", url=None, ready_ms=None, error=problem)
            else:
                after = before
            if after is not before:
                self._replicas[replica] = after
                self._tell(after)
            await asyncio.sleep(self._every_s)

    def _tell(self, replica: FleetReplica) -> None:
        if self._changed is not None:
            self._changed(replica)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
