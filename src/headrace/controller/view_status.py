"""What a server looks like from outside: its processes and endpoints, and what is wrong with them."""

from __future__ import annotations

import msgspec

from headrace import __version__
from headrace.controller.controller import Controller
from headrace.controller.view import EndpointInfo, endpoint_info
from headrace.gateway.snapshot import JournalTick
from headrace.ledger.usage import conflicts

TICKS_LATE_S = 5.0
"""Ten missed reports of a gateway."""


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    """``gateway``, ``controller`` or ``replica``."""
    state: str
    pid: int | None
    started_ms: int | None
    restarts: int
    """In the last ten minutes or so. Replicas are not restarted but replaced, under another name."""


class StatusInfo(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    now_ms: int
    data_dir: str
    problems: tuple[str, ...]
    processes: tuple[ProcessInfo, ...]
    endpoints: tuple[EndpointInfo, ...]


def status_info(controller: Controller) -> StatusInfo:
    now = controller.clock.now()
    endpoints = tuple(endpoint_info(controller, endpoint) for endpoint in controller.store.endpoints())
    problems = [f"endpoint {endpoint.name}: {problem}" for endpoint in endpoints for problem in endpoint.problems]
    if not controller.gateways.connected():
        problems.append("no gateway is connected: nothing is served")
    elif (age_s := controller.gateways.metrics_age_s(now)) is None or age_s > TICKS_LATE_S:
        problems.append("gateways are connected but do not report: scaling stands still")
    with controller.database.read() as session:
        found = conflicts(session)
    if found:
        problems.append(f"{found} journal records contradict the ledger; they are in the table journal_conflicts")
    if controller.decisions is not None and controller.decisions.failure is not None:
        problems.append(f"decisions are not recorded: {controller.decisions.failure}")
    problems += [problem for journal in controller.gateways.journals() for problem in _journal_problems(journal)]
    return StatusInfo(
        version=__version__,
        now_ms=controller.clock.now_ms(),
        data_dir=str(controller.data.root),
        problems=tuple(problems),
        processes=_processes(controller),
        endpoints=endpoints,
    )


def _journal_problems(journal: JournalTick) -> list[str]:
    problems = []
    if journal.failure is not None:
        meanwhile = "served unmetered" if journal.serves_unmetered else "refused"
        problems.append(f"usage cannot be recorded, so new requests are {meanwhile}: {journal.failure}")
    if journal.unmetered_requests:
        problems.append(
            f"{journal.unmetered_requests} requests were served unmetered, with {journal.unmetered_input_tokens} input "
            f"and {journal.unmetered_output_tokens} output tokens, since the start of their gateway"
        )
    return problems


def _processes(controller: Controller) -> tuple[ProcessInfo, ...]:
    """The server's own, as far as the supervisor told of them, then the replicas."""
    services = []
    for kind in ("gateway", "controller"):
        lives = sorted((c for c in controller.processes() if c.kind == kind), key=lambda child: child.started_ms)
        if lives:
            newest = lives[-1]
            services.append(
                ProcessInfo(
                    name=newest.name,
                    kind=newest.kind,
                    state="running" if newest.exited_ms is None else f"exited with {newest.exit_code}",
                    pid=newest.pid,
                    started_ms=newest.started_ms,
                    restarts=len(lives) - 1,
                )
            )
    replicas = [
        ProcessInfo(
            name=replica.id,
            kind="replica",
            state=replica.phase.value,
            pid=replica.pid,
            started_ms=replica.created_ms,
            restarts=0,
        )
        for replica in controller.roster.all()
    ]
    return (*services, *replicas)
