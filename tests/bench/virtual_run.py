"""In place of a run of the load client: the same requests at the same times, on a virtual clock, against a server with
so many slots that answers in the order of arrival. Nothing waits, and nothing on the machine matters."""

from __future__ import annotations

import asyncio
import heapq
from pathlib import Path

import numpy as np

from headrace.bench.client.records import REQUEST, ProcessReport, Records, TokensFrom
from headrace.bench.client.shares import open_share
from headrace.bench.client.spec import ClientSpec
from headrace.bench.workload.source import open_workload
from headrace.bench.workload.spec import ClosedLoop

LOOK_S = 0.5
"""Of virtual time, between two looks."""


class Clock:
    """Also in the place of the module ``time``."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class VirtualServer:
    """Makes runs; ``VirtualServer(...).run`` stands for the class ``Run``."""

    def __init__(self, slots: int, service_s: float) -> None:
        self.slots, self.service_s, self.clock = slots, service_s, Clock()
        self.runs: list[VirtualRun] = []

    def run(self, spec: ClientSpec, directory: Path) -> VirtualRun:
        self.runs.append(VirtualRun(self, spec))
        return self.runs[-1]


class VirtualRun:
    """Each begins with an empty server; requests after the measured ones only keep it busy."""

    def __init__(self, server: VirtualServer, spec: ClientSpec) -> None:
        self.spec = spec
        self._server, self._over = server, asyncio.Event()
        self.zero = 0.0
        load, free = spec.load, [0.0] * server.slots
        workload = open_workload(load)
        self._planned_s: tuple[float, ...] | None = None
        rows = []
        if isinstance(load.arrivals, ClosedLoop):
            users = [0.0] * load.arrivals.users
            for _ in range(load.amount.requests or 0):
                due = heapq.heappop(users)
                rows.append((due, self._served(free, due)))
                heapq.heappush(users, rows[-1][1])
            measured = len(rows)
        else:
            due_s, measured = open_share(load, workload.trace_s, 60.0, 0, 1)
            self._planned_s = tuple(due_s[:measured].tolist())
            rows = [(due, self._served(free, due)) for due in due_s.tolist()]
        self._requests = np.zeros(len(rows), REQUEST)
        _, _, input_tokens, output_tokens = workload.request(0)
        for name, values in {
            "number": np.arange(len(rows)),
            "measured": np.arange(len(rows)) < measured,
            "counted": True,
            "status": 200,
            "scheduled_s": [due for due, _ in rows],
            "sent_s": [due for due, _ in rows],
            "first_byte_s": [end for _, end in rows],
            "first_s": [end for _, end in rows],
            "last_s": [end for _, end in rows],
            "end_s": [end for _, end in rows],
            "asked_input": input_tokens,
            "input_tokens": input_tokens,
            "asked_output": output_tokens,
            "output_tokens": output_tokens,
            "error": -1,
            "tokens_from": TokensFrom.AGREED,
        }.items():
            self._requests[name] = values
        self._ends_s = float(self._requests["end_s"][:measured].max(initial=0.0))

    def _served(self, free: list[float], due: float) -> float:
        """When it ends."""
        end = max(due, heapq.heappop(free)) + self._server.service_s
        heapq.heappush(free, end)
        return end

    async def start(self) -> None:
        self.zero = self._server.clock.now_s

    def poll(self) -> Records:
        """A look later."""
        self._server.clock.now_s += LOOK_S
        if self._now_s >= self._ends_s:
            self._over.set()
        return self._records()

    async def stop(self, abort: bool) -> None:
        self._over.set()

    async def finish(self) -> Records:
        await self._over.wait()
        return self._records()

    @property
    def _now_s(self) -> float:
        return self._server.clock.now_s - self.zero

    def _records(self) -> Records:
        ended = self._requests[self._requests["end_s"] <= self._now_s]
        idle = ProcessReport(
            process=0, wall_s=1.0, cpu_s=0.1, loop_lag_p50_s=0.0, loop_lag_p99_s=0.0, loop_lag_max_s=0.0
        )
        return Records(
            requests=ended,
            event_s=np.empty(0),
            event_tokens=np.empty(0, np.uint16),
            errors=(),
            processes=(idle,),
            planned_s=self._planned_s,
        )
