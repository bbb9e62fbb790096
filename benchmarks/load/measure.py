"""One client on one case: run, watched, and what it told held against the truth."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from cases import Case
from client_row import ClientRow
from numpy.typing import NDArray
from process import Child, Failed, cpu_s
from server_process import TruthServer
from told import Told
from truth import Counts, Truth

POLL_S = 0.05
EARLIEST = 0.01
"""Quantile of a client's requests that is taken to be on time where it does not tell its plan."""

Figures = dict[str, float]
"""By name, with the unit at its end."""


@dataclass(frozen=True)
class Place:
    server: TruthServer
    server_cores: tuple[int, ...]
    client_cores: tuple[int, ...]


@dataclass(frozen=True)
class Moment:
    at_s: float
    counts: Counts
    client_cpu_s: float
    machine_cpu_s: float
    """Of everybody."""


async def measure(row: ClientRow, case: Case, place: Place) -> Figures:
    """Raises Failed where the client does not do it."""
    with tempfile.TemporaryDirectory(prefix="hr-") as made:
        folder = Path(made)
        place.server.begin(case.load.answers)
        before_s = ended_children_s()
        command = row.command(place.server.port, case.load, folder)
        log = folder / "client.log"
        child = Child(
            command.argv, log=log, stdin=command.stdin, env=command.env, cores=place.client_cores, talks=False
        )
        try:
            limit_s = row.start_s + case.load.seconds
            first, last = await _window(child, case, place, limit_s)
            await _end(child, 2 * limit_s)
        finally:
            await child.stop()
        whole_s = ended_children_s() - before_s
        counts = place.server.counts()
        truth = place.server.end(folder / "truth.npz")
        figures = _cost(first, last) | {"whole_cpu_s": whole_s, "whole_requests": float(counts.arrived)}
        if counts.looked:
            figures["unread_share"] = counts.unread / counts.looked
        if not case.load.answers.record:
            return figures
        try:
            told = row.told(folder, truth)
        except (OSError, KeyError, ValueError) as error:
            raise Failed(f"what it told cannot be read: {error!r}; {child.last_words()}") from None
        if not told.count:
            raise Failed(f"told of no request; {child.last_words()}")
        return figures | compare(told, truth, case.load.rate)


async def _window(child: Child, case: Case, place: Place, limit_s: float) -> tuple[Moment, Moment]:
    """What there was at its two ends. Raises Failed where the client ended before."""
    while not place.server.counts().arrived:
        if not child.alive:
            raise Failed(f"ended without a request; {child.last_words()}")
        if child.age_s > limit_s:
            raise Failed(f"sent nothing in {limit_s:g} s; {child.last_words()}")
        await asyncio.sleep(POLL_S)
    began_s = time.perf_counter()
    moments = []
    for at_s in (case.from_s, case.to_s):
        await asyncio.sleep(began_s + at_s - time.perf_counter())
        moments.append(Moment(time.perf_counter(), place.server.counts(), tree_s(child), machine_s()))
    if not child.alive:
        raise Failed(f"ended before its load did; {child.last_words()}")
    return moments[0], moments[1]


async def _end(child: Child, limit_s: float) -> None:
    """Wait for it. Raises Failed where it takes too long or complains."""
    while child.alive:
        if child.age_s > limit_s:
            raise Failed(f"did not end in {limit_s:g} s; {child.last_words()}")
        await asyncio.sleep(POLL_S)


def _cost(first: Moment, last: Moment) -> Figures:
    """Over a window."""
    wall_s, cpu = last.at_s - first.at_s, last.client_cpu_s - first.client_cpu_s
    events, requests = last.counts.events - first.counts.events, last.counts.arrived - first.counts.arrived
    server_s = last.counts.cpu_s - first.counts.cpu_s
    figures = {
        "client_share": cpu / wall_s,
        "server_share": server_s / wall_s,
        "others_cores": max(0.0, last.machine_cpu_s - first.machine_cpu_s - cpu - server_s) / wall_s,
        "requests_per_s": requests / wall_s,
        "events_per_s": events / wall_s,
    }
    if events:
        figures |= {"event_us": cpu / events * 1e6, "server_event_us": server_s / events * 1e6}
    if requests:
        figures |= {"request_us": cpu / requests * 1e6, "server_request_us": server_s / requests * 1e6}
    return figures


def compare(told: Told, truth: Truth, rate: float | None) -> Figures:
    """What a client told against what was. ``rate``: at which it was to send, evenly."""
    added_s = told.ttft_s - truth.served_s[told.request]
    wrong = told.tokens != truth.tokens[told.request].astype(np.int64)
    figures = {"told": float(told.count), "wrong_tokens": float(wrong.sum())}
    figures |= quantiles("added_ttft", added_s[np.isfinite(added_s)])
    if rate is not None:
        figures |= quantiles("late", lateness_s(told, truth, rate))
    return figures


def quantiles(name: str, values_s: NDArray[np.float64]) -> Figures:
    if not len(values_s):
        return {}
    p50, p99 = np.quantile(values_s, (0.5, 0.99)) * 1e6
    return {f"{name}_p50_us": float(p50), f"{name}_p99_us": float(p99)}


def lateness_s(told: Told, truth: Truth, rate: float) -> NDArray[np.float64]:
    """Of each request's arrival at the server, against the client's plan; where it tells none, against even spacing at
    the rate, with the ``EARLIEST`` of its requests taken to be on time."""
    if told.planned_ns is not None:
        return (truth.arrival_ns[told.request] - told.planned_ns) / 1e9
    arrival_s = np.sort(truth.arrival_ns) / 1e9
    late = arrival_s - np.arange(len(arrival_s)) / rate
    return late - np.quantile(late, EARLIEST)


def tree_s(child: Child) -> float:
    """Processor time so far of a client and its descendants, of those that have ended and were waited for too."""
    total = 0.0
    for process in child.tree():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += cpu_s([process.pid]) + times.children_user + times.children_system
    return total


def machine_s() -> float:
    """Processor time of all processes of the machine so far, and what its host took from it."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def ended_children_s() -> float:
    """Processor time of all children of this process that have ended, with their descendants."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
