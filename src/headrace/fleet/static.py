"""Servers that already run, each as one replica: nothing is started, its health is asked for again and again."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from headrace.engines.base import ModelSettings
from headrace.engines.openai import OpenAIEngine
from headrace.fleet.base import Changed, FleetError, FleetReplica

ASK_EVERY_S = 2.0
ANSWER_S = 5.0


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
        """One: the server at the model's URL."""
        return 1

    def room(self, model: ModelSettings) -> int:
        """One while no replica stands for the model's URL."""
        return 0 if model.url in self._urls.values() else 1

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
        """Watch the model's server as a replica. ``cache_prompts`` is that server's own to decide.

        Raises FleetError where another replica stands for it, and EngineError for settings that cannot work.
        """
        if replica in self._replicas:
            return self._replicas[replica]
        engine = OpenAIEngine()
        engine.check(model)
        assert model.url is not None  # check() refuses it
        secret = engine.key(model)
        if self.room(model) == 0:
            raise FleetError(f"{model.url} is one replica of {model.name}, and that is in use")
        self._urls[replica] = model.url
        self._replicas[replica] = FleetReplica(
            id=replica,
            state="loading",
            url=None,
            secret=secret,
            started_ms=_now_ms(),
            labels=dict(labels or {}),
        )
        self._watches[replica] = asyncio.create_task(self._watch(replica))
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

    async def _watch(self, replica: str) -> None:
        while True:
            before = self._replicas[replica]
            problem = await asyncio.to_thread(_problem, self._urls[replica], before.secret)
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


def _problem(url: str, key: str) -> str | None:
    """None when the server answers. ``/v1/models`` asks for the key too; a server without it may have ``/health``."""
    try:
        status = _status(f"{url}/v1/models", key)
        if status == HTTPStatus.NOT_FOUND:
            status = _status(f"{url}/health", key)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{url} does not answer: {getattr(error, 'reason', error)}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"{url} refuses the key (it answered {status})"
    return None if status == HTTPStatus.OK else f"{url} answered {status}"


def _status(url: str, key: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
