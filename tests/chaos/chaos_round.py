"""One round of chaos: a whole server under load, processes killed with -9, time to heal, and the books checked."""

from __future__ import annotations

import random
import sys
import threading
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.append(str(Path(__file__).parents[1] / "system"))
from chaos_books import Journals, Ledger
from chaos_check import HEARD_S, Evidence, Loss, check
from chaos_clients import Attempt, Clients
from chaos_kills import Kill, Killer, plan
from chaos_phases import APPLIES, Phase, Target
from chaos_process import Children
from system_server import NeverHappened, Server, until
from system_simulated import register_simulated

from headrace.paths import DataDir
from headrace.profiles.profile import IterationTime

ENDPOINTS = ("a", "b")
CHUNKS = 3
SLOTS = 4
CLIENTS = 32
"""More than there are slots: some requests always wait."""
ITERATION = IterationTime(base_s=0.008, prefill_s=0.0003, decode_s=0.0015, context_s=0.0)
"""About 70 output tokens a second for each of four requests, and 0.3 s for a prompt of 1,000 tokens."""

SERVES_AGAIN_S = 15.0
"""After a kill: the supervisor waits up to 5 s before it starts a process again that dies over and over, and a gateway
knows no keys until there is a controller."""
HEALED_S = 60.0
"""After the last kill: the replicas of an endpoint that lost several in a row come back after ever longer times."""


@dataclass
class Report:
    """What one round did and found."""

    seed: int
    kills: list[Kill]
    attempts: list[Attempt]
    problems: list[str]
    requests: int = 0
    recovered: int = 0
    losses: list[Loss] = field(default_factory=list)
    gateway_back_s: list[float] = field(default_factory=list)
    controller_back_s: list[float] = field(default_factory=list)
    healed_s: float = 0.0


class ControlPlane:
    """Asks the controller again and again, as an operator's page does."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-plane")
        self.answered: list[float] = []
        """``time.monotonic()`` of each question that was answered: when it was asked."""

    def __enter__(self) -> ControlPlane:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            asked = time.monotonic()
            try:
                self._server.call("GET", "/api/headrace/v1/status", timeout=10)
            except (OSError, ValueError):
                continue
            self.answered.append(asked)


def run_round(folder: Path, *, kills: int, seed: int, say: Callable[[str], None] = lambda line: None) -> Report:
    """``folder``: empty; the server's data directory is made in it. What is wrong afterwards is in ``problems``."""
    data = DataDir(folder / "data")
    data.create()
    profile = register_simulated(data.root, "sim", ITERATION, slots=SLOTS)
    draw = random.Random(seed)
    with Server(data.root) as server:
        for name in ENDPOINTS:
            _create(server, name, profile.chunk)
        until(lambda: _all_ready(server), within_s=60, what="every replica is ready")
        children, journals, ledger = Children(data.logs / "supervisor.log"), Journals(data.journal), Ledger(data)
        done: list[Kill] = []
        clients = Clients(server.url, server.key, list(ENDPOINTS), clients=CLIENTS, seed=seed)
        with ControlPlane(server) as control, clients:
            until(lambda: any(a.tokens for a in clients.open()) or None, within_s=30, what="answers stream")
            killer = Killer(children, clients, journals, ledger, draw)
            for number, (target, aim) in enumerate(plan(kills, draw), start=1):
                done.append(killer.kill(target, aim))
                say(f"  {number:3d}  {_told(done[-1])}")
            calm = time.monotonic()
            clients.stop()
            report = Report(seed, done, clients.attempts, [])
            try:
                _heal(server, journals, ledger)
            except NeverHappened as late:
                report.problems.append(str(late))
            report.healed_s = time.monotonic() - calm
        evidence = _gather(server, data, children, journals, ledger, report)
        check(evidence, report.problems, report.losses)
        report.requests = len(journals.requests)
        report.recovered = sum(row["ended"] == "recovered" for row in evidence.usage)
        _time_to_serve(report, control)
        started = children.all()
        try:
            server.stop()
        except AssertionError as error:
            report.problems.append(str(error))
    left = [child for child in started if _is_ours(child.pid)]
    report.problems += [f"process {child.pid} ({child.name}) outlived its server" for child in left]
    return report


def missing(kills: list[Kill]) -> list[str]:
    """Phases that no kill has hit, over all targets and of those that each target must have."""
    needs = [(target, phase) for target in Target for phase in Phase if phase in APPLIES[target]]
    return [
        f"no kill of the {target} hit a request {phase}"
        for target, phase in needs
        if not any(kill.target is target and kill.hits(phase) for kill in kills)
    ]


def _create(server: Server, name: str, chunk: int) -> None:
    entity = {
        "entity_name": "sim",
        "entity_version": "1",
        "min_provisioned_throughput": CHUNKS * chunk,
        "max_provisioned_throughput": CHUNKS * chunk,
        "scale_to_zero_enabled": False,
    }
    server.call("POST", "/api/2.0/serving-endpoints", {"name": name, "config": {"served_entities": [entity]}})


def _all_ready(server: Server) -> bool:
    try:
        return all(server.endpoint(name)["chunks_ready"] == CHUNKS for name in ENDPOINTS)
    except (OSError, ValueError):
        return False


def _heal(server: Server, journals: Journals, ledger: Ledger) -> None:
    until(lambda: _all_ready(server), within_s=HEALED_S, what="every replica is ready again")

    def serves() -> bool:
        try:
            for name in ENDPOINTS:
                server.call("POST", "/v1/completions", {"model": name, "prompt": "x", "max_tokens": 1}, timeout=10)
        except (OSError, ValueError):
            return False
        return True

    until(serves, within_s=SERVES_AGAIN_S, what="every endpoint serves")

    def caught_up() -> bool:
        journals.read()
        ingested = ledger.ingested()
        return ingested is not None and not journals.beyond(ingested) and all(row["ended"] for row in ledger.usage())

    until(caught_up, within_s=30, what="the ledger has every record, and every request in it has ended")


def _gather(
    server: Server, data: DataDir, children: Children, journals: Journals, ledger: Ledger, report: Report
) -> Evidence:
    replicas: dict[str, Any] = {}
    bills: list[Any] = []
    try:
        for name in ENDPOINTS:
            replicas |= {replica["id"]: replica["pid"] for replica in server.endpoint(name)["replicas"]}
            bills += server.get(f"/api/headrace/v1/bill?endpoint={name}")["bills"]
    except urllib.error.URLError as error:
        report.problems.append(f"the controller does not answer: {error}")
    return Evidence(
        attempts=report.attempts,
        kills=report.kills,
        journals=journals,
        usage=ledger.usage(),
        conflicts=ledger.conflicts(),
        bills=bills,
        chunks=CHUNKS,
        replicas_told=replicas,
        processes={process.pid: _kind(process) for process in server.family()},
    )


def _time_to_serve(report: Report, control: ControlPlane) -> None:
    """How long after the kill of a gateway or controller the first answer came, where no other kill came between."""
    services = [kill for kill in report.kills if kill.target is not Target.REPLICA]
    firsts = sorted(attempt.seen[0][0] for attempt in report.attempts if attempt.seen)
    for target, answers, times in (
        (Target.GATEWAY, firsts, report.gateway_back_s),
        (Target.CONTROLLER, control.answered, report.controller_back_s),
    ):
        for kill, after in zip(services, [*services[1:], None], strict=True):
            # What a dead gateway had sent may arrive a moment later.
            back = next((at for at in answers if at > kill.dead + HEARD_S), None)
            if kill.target is target and back is not None and (after is None or back < after.at):
                times.append(back - kill.at)
        if times and max(times) > SERVES_AGAIN_S:
            report.problems.append(f"{max(times):.1f} s from the kill of a {target} to the next answer")


def _kind(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next(
        (kind for kind in ("gateway", "controller", "engines") if f"headrace.{kind}" in line), f"unknown: {line}"
    )


def _is_ours(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "headrace." in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _told(kill: Kill) -> str:
    hits = ", ".join(f"{count} {phase}" for phase, count in kill.found.items() if count)
    inside = ", inside its transaction" if kill.in_transaction else ""
    return f"{kill.target:10} aimed {kill.aimed or 'at random':14} {hits}{inside}"
