"""What an endpoint and a server look like from outside: everything a person or the page asks for, in one piece."""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace import __version__
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Options
from headrace.controller.gateways import Gauges
from headrace.controller.lifecycle import Phase, Replica
from headrace.controller.words import counted
from headrace.gateway.snapshot import JournalTick
from headrace.ledger.bills import decimal
from headrace.ledger.usage import conflicts
from headrace.policy.work import Weights

RATES_OVER_S = 10
"""Tokens/s "now" are means over so many seconds."""
TICKS_LATE_S = 5.0
"""Ten missed reports of a gateway."""

State = Literal["ready", "starting", "asleep", "degraded", "failed"]
"""``asleep``: at zero, as its range allows. ``degraded``: it serves, with less than its minimum."""


class ReplicaInfo(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: str
    pid: int | None
    cpus: tuple[int, ...]
    slots: int
    in_flight: int
    config_version: int
    created_ms: int
    ready_ms: int | None
    draining_ms: int | None
    drain_cause: str | None
    load_s: float | None
    message: str


class FailureInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The last failure of a replica."""

    at_ms: int
    in_a_row: int
    message: str
    log_tail: str
    next_start_ms: int


class RatesInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Per second, means over the last ``over_s`` seconds."""

    over_s: int
    input_tokens_s: float
    output_tokens_s: float
    total_tokens_s: float
    """Input + output."""
    reference_tokens_s: float
    """Served."""
    offered_reference_tokens_s: float


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Chunk and range are in reference tokens/s, by the config that is sold now."""

    id: str
    name: str
    state: State
    problems: tuple[str, ...]
    config_update: str
    update_message: str
    config_version: int
    pending_version: int | None
    model: str
    model_version: str
    engine: str
    simulated: bool
    context: int
    slots: int
    default_max_tokens: int
    chunk: int
    min_chunks: int
    max_chunks: int
    min_tokens_s: int
    max_tokens_s: int
    scale_to_zero: bool
    weights: Weights
    profile_id: str
    profile_status: str
    """``provisional``, ``quick`` or ``measured``."""
    measuring: bool
    price_per_chunk_hour: str
    currency: str
    options: Options
    created_ms: int
    chunks_wanted: int
    """By the last scaling decision."""
    chunks_ready: int
    chunks_loading: int
    chunks_draining: int
    chunks_in_use: int
    """Ready or draining."""
    chunks_billed: int
    scaling_reason: str
    replicas: tuple[ReplicaInfo, ...]
    gauges: Gauges
    rates: RatesInfo
    last_failure: FailureInfo | None


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


def endpoint_info(controller: Controller, endpoint: Endpoint) -> EndpointInfo:
    config = endpoint.active or endpoint.target
    entity = config.entity
    watch = controller.reconciler.watch(endpoint.id)
    backoff = watch.backoff
    chunks = controller.chunks(endpoint)
    newest = controller.timeline.newest(endpoint.id)
    failure = None
    if backoff.failures:
        failure = FailureInfo(
            at_ms=backoff.at_ms,
            in_a_row=backoff.failures,
            message=backoff.message,
            log_tail=backoff.tail,
            next_start_ms=backoff.not_before_ms,
        )
    return EndpointInfo(
        id=endpoint.id,
        name=endpoint.name,
        state=_state(endpoint, chunks.ready, failing=controller.reconciler.failing(endpoint)),
        problems=_problems(controller, endpoint),
        config_update=endpoint.update,
        update_message=endpoint.update_message,
        config_version=config.version,
        pending_version=endpoint.pending.version if endpoint.pending else None,
        model=entity.model.name,
        model_version=entity.model.version,
        engine=entity.model.engine,
        simulated=entity.model.engine == "simulated",
        context=entity.model.context,
        slots=entity.model.slots,
        default_max_tokens=entity.model.default_max_tokens,
        chunk=entity.chunk,
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        min_tokens_s=entity.min_chunks * entity.chunk,
        max_tokens_s=entity.max_chunks * entity.chunk,
        scale_to_zero=entity.scale_to_zero,
        weights=entity.weights,
        profile_id=entity.profile_id,
        profile_status=entity.profile_status,
        measuring=endpoint.name in controller.measuring,
        price_per_chunk_hour=decimal(entity.price_micro),
        currency=entity.currency,
        options=endpoint.options,
        created_ms=endpoint.created_ms,
        chunks_wanted=watch.wanted,
        chunks_ready=chunks.ready,
        chunks_loading=chunks.loading,
        chunks_draining=chunks.draining,
        chunks_in_use=chunks.ready + chunks.draining,
        chunks_billed=newest.billed_chunks if newest else 0,
        scaling_reason=watch.reason,
        replicas=tuple(_replica(controller, replica) for replica in controller.roster.of(endpoint.id)),
        gauges=controller.gateways.gauges(endpoint.id),
        rates=_rates(controller, endpoint),
        last_failure=failure,
    )


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


def _state(endpoint: Endpoint, ready: int, *, failing: bool) -> State:
    if ready == 0 and (failing or endpoint.update == "UPDATE_FAILED"):
        return "failed"
    if endpoint.active is None:
        return "starting"
    if ready == 0:
        return "asleep" if endpoint.active.entity.min_chunks == 0 else "starting"
    return "ready" if ready >= endpoint.active.entity.min_chunks else "degraded"


def _problems(controller: Controller, endpoint: Endpoint) -> tuple[str, ...]:
    watch = controller.reconciler.watch(endpoint.id)
    problems = []
    if endpoint.update == "UPDATE_FAILED":
        problems.append(f"the last config update failed: {endpoint.update_message}")
    if failures := watch.backoff.failures:
        row = f"{failures} replicas in a row failed, the last" if failures > 1 else "a replica failed"
        problems.append(f"{row}: {watch.backoff.message}")
    if watch.granted < watch.wanted:
        ranges = " or ".join(("its range", *(f"that of {rival}" for rival in watch.rivals)))
        problems.append(
            f"it should have {counted(watch.wanted, 'chunk')}, and there is room for {watch.granted}: "
            f"make {ranges} smaller, or use a machine with more cores"
        )
    problems += [
        f"replica {replica.id}: {replica.message}"
        for replica in controller.roster.of(endpoint.id)
        if replica.phase is Phase.LOADING and replica.message
    ]
    return tuple(problems)


def _replica(controller: Controller, replica: Replica) -> ReplicaInfo:
    return ReplicaInfo(
        id=replica.id,
        state=replica.phase.value,
        pid=replica.pid,
        cpus=replica.cpus,
        slots=replica.model.slots,
        in_flight=controller.gateways.in_flight(replica.id),
        config_version=replica.config_version,
        created_ms=replica.created_ms,
        ready_ms=replica.ready_ms,
        draining_ms=replica.draining_ms,
        drain_cause=replica.drain_cause,
        load_s=replica.load_s,
        message=replica.message,
    )


def _rates(controller: Controller, endpoint: Endpoint) -> RatesInfo:
    mean = controller.series.mean(endpoint.id, RATES_OVER_S)
    return RatesInfo(
        over_s=RATES_OVER_S,
        input_tokens_s=mean.input_tokens_s if mean else 0.0,
        output_tokens_s=mean.output_tokens_s if mean else 0.0,
        total_tokens_s=mean.total_tokens_s if mean else 0.0,
        reference_tokens_s=mean.reference_tokens_s if mean else 0.0,
        offered_reference_tokens_s=mean.offered_reference_tokens_s if mean else 0.0,
    )


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
