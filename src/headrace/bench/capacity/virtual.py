"""Servers on a virtual clock whose capacity is known: what a search is proved on.

``Curve`` draws outcomes, correlated, from an attainment curve. ``Station`` and ``Batcher`` are queues: what they attain
follows from waiting, and their capacity from a brute-force run (``long_run_capacity``).
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.bench.capacity.answer import Answer
from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.capacity.search import Search

Array = NDArray[np.float64]
LOOKS = 8
"""Times that ``enough`` is asked between the least and the most requests of a probe."""


class Server(ABC):
    """Requests in, fates out; each probe finds it empty."""

    @abstractmethod
    def open_loop(self, scheduled: Array, rate: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array]:
        """Good or not, and when each ended."""

    @abstractmethod
    def closed_loop(self, users: int, n: int, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array, Array]:
        """Good or not, when each was due, and when it ended."""


@dataclass(frozen=True)
class Curve(Server):
    """Attainment as a function of the rate. A request has the fate of the one before with probability ``memory``, which
    makes a design effect of (1 + memory) / (1 - memory)."""

    attainment: Callable[[float], float]
    most: float
    """Throughput of the closed loop, requests/s, when it is saturated."""
    memory: float = 0.0
    latency_s: float = 1.0

    def open_loop(self, scheduled: Array, rate: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array]:
        return self._fates(self.attainment(rate), len(scheduled), random), scheduled + self.latency_s

    def closed_loop(self, users: int, n: int, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array, Array]:
        rate = min(users / self.latency_s, self.most)
        scheduled = np.arange(n) / rate
        return self._fates(self.attainment(rate), n, random), scheduled, scheduled + users / rate

    def _fates(self, share: float, n: int, random: np.random.Generator) -> NDArray[np.bool_]:
        fresh = random.random(n) < share
        renewed = random.random(n) >= self.memory
        return np.asarray(fresh[np.maximum.accumulate(np.where(renewed, np.arange(n), 0))])


@dataclass(frozen=True)
class Station(Server):
    """Servers that take turns: request ``i`` goes to server ``i % servers`` and waits there. With one length of service
    that is first come, first served (M/D/c); else it is a router in turns. A request is good within ``limit_s``."""

    servers: int
    limit_s: float
    sigma: float = 0.0
    """Of the logarithm of the service time, whose mean is 1 s; 0: all the same."""

    def open_loop(self, scheduled: Array, rate: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array]:
        n = len(scheduled)
        rows = -(-n // self.servers)
        due = np.full(rows * self.servers, np.inf)
        due[:n] = scheduled
        service = self._services(rows * self.servers, random).reshape(rows, self.servers)
        done = np.cumsum(service, axis=0)
        # Lindley: a departure is the largest of (arrival + all service from there on).
        end = np.maximum.accumulate(due.reshape(rows, self.servers) - (done - service), axis=0) + done
        ended = end.reshape(-1)[:n]
        return ended - scheduled <= self.limit_s, ended

    def closed_loop(self, users: int, n: int, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array, Array]:
        rate = min(users, self.servers)
        scheduled = np.arange(n) / rate
        latency = self._services(n, random) + users / rate - 1
        return latency <= self.limit_s, scheduled, scheduled + latency

    def _services(self, n: int, random: np.random.Generator) -> Array:
        return np.exp(random.normal(-(self.sigma**2) / 2, self.sigma, n)) if self.sigma else np.ones(n)


@dataclass(frozen=True)
class Batcher(Server):
    """Continuous batching: up to ``slots`` requests run at the same time, each slower the more there are; the rest wait
    in order. A request has exponential work of mean 1, done at 1 / (base_s + more_s * running) a second. Good: it began
    within ``wait_s`` and took at most ``pace_s`` for a unit of its work."""

    slots: int = 8
    base_s: float = 0.5
    more_s: float = 0.1
    wait_s: float = 0.5
    pace_s: float = 1.28

    def open_loop(self, scheduled: Array, rate: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array]:
        began, ended, work = self._run(scheduled.tolist(), random)
        good = (began - scheduled <= self.wait_s) & (ended - began <= self.pace_s * work)
        return good, ended

    def closed_loop(self, users: int, n: int, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array, Array]:
        running = min(users, self.slots)
        pace = self.base_s + self.more_s * running
        scheduled = np.arange(n) * pace / running
        waited = users * pace / running - pace
        return np.full(n, waited <= self.wait_s and pace <= self.pace_s), scheduled, scheduled + waited + pace

    def _run(self, due: list[float], random: np.random.Generator) -> tuple[Array, Array, Array]:
        n, slots, base, more = len(due), self.slots, self.base_s, self.more_s
        work = random.exponential(1.0, n)
        works, began, ended = work.tolist(), [0.0] * n, [0.0] * n
        # Work done by each running request since the start: one is over when that reaches what it was plus its own.
        running: list[tuple[float, int]] = []
        now = done = 0.0
        arrived = started = 0
        while arrived < n or running:
            pace = base + more * len(running)
            over = now + (running[0][0] - done) * pace if running else math.inf
            if arrived < n and due[arrived] <= over:
                done += (due[arrived] - now) / pace
                now = due[arrived]
                arrived += 1
            else:
                done, number = heapq.heappop(running)
                now = over
                ended[number] = now
            while started < arrived and len(running) < slots:
                heapq.heappush(running, (done + works[started], started))
                began[started] = now
                started += 1
        return np.array(began), np.array(ended), work


def observe(server: Server, probe: Probe, most: int | None = None) -> Observed:
    """The whole probe, Poisson arrivals."""
    random = np.random.default_rng(probe.seed)
    n = probe.max_requests if most is None else most
    if probe.users is not None:
        good, scheduled, ended = server.closed_loop(probe.users, n, random)
    else:
        assert probe.rate is not None
        scheduled = np.cumsum(random.exponential(1 / probe.rate, n))
        good, ended = server.open_loop(scheduled, probe.rate, random)
    return seen(good, scheduled, ended, n)


def seen(good: NDArray[np.bool_], scheduled: Array, ended: Array, n: int) -> Observed:
    """Of the first ``n`` requests, when all of them are answered."""
    return Observed(
        good=(good[:n],),
        scheduled_s=scheduled[:n],
        end_s=ended[:n],
        rejected=0,
        elapsed_s=float(ended[:n].max()),
        input_tokens=2048.0,
        output_tokens=256.0,
        work=None,
        finished=n == len(good),
    )


def carry_out(search: Search, server: Server) -> Answer:
    """The whole search, asking ``enough`` now and then as a live driver does."""
    while not isinstance(probe := search.next(), Answer):
        whole = observe(server, probe)
        told = whole
        for n in np.linspace(probe.min_requests, probe.max_requests, LOOKS + 1).astype(int)[:-1]:
            part = seen(whole.good[0], whole.scheduled_s, whole.end_s, max(int(n), 1))
            if search.enough(probe, part):
                told = part
                break
        search.tell(probe, told)
    return probe


def long_run_capacity(server: Server, target: float, low: float, high: float, *, requests: int, seed: int) -> float:
    """Rate at which the attainment of one long run crosses ``target``, by bisection with the same random numbers at all
    rates. A twentieth is left out at its start."""
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        observed = observe(server, Probe("refine", seed, 0, requests, rate=middle))
        if observed.good[0][requests // 20 :].mean() >= target:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
