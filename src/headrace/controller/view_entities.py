"""What a served entity looks like from outside: its terms, what runs and what is asked of it now."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import msgspec

from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.gateways import Gauges
from headrace.controller.scaler import knobs_of
from headrace.engines.base import ModelSettings
from headrace.ledger.bills import decimal
from headrace.policy.outlook import Outlook, Standing
from headrace.policy.scaling import Knobs, windows
from headrace.policy.work import Weights
from headrace.profiles import files, starts

RATES_OVER_S = 10
"""Tokens/s "now" are means over so many seconds."""

State = Literal["ready", "starting", "asleep", "pending", "degraded", "failed"]
"""``asleep``: at zero, as its range allows. ``pending``: it should have a chunk, and there is room for none.
``degraded``: it serves, with less than its minimum; of an endpoint, not all that it should serve with serves so."""


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


class EntityInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A served entity by the config that is sold now. Chunk and range are in reference tokens/s."""

    id: str
    name: str
    traffic: int
    """Percentage of the endpoint's requests."""
    state: State
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
    """``provisional``, ``quick``, ``measured`` or ``doubtful``."""
    price_per_chunk_hour: str
    currency: str
    start_s: float | None
    """What a start takes: the median of those seen here, else what the profile measured."""
    chunks_wanted: int
    """By the last scaling decision."""
    chunks_pending: int
    """Of them, those that the machine has no room for beside the other served entities."""
    chunks_ready: int
    chunks_loading: int
    chunks_draining: int
    chunks_in_use: int
    """Ready or draining."""
    chunks_billed: int
    scaling_reason: str
    """Of the last decision."""
    scaling_standing: Standing | None
    """What follows if nothing changes; None before the first decision."""
    scaling_until_ms: int | None
    """Until then at least, where a time is known."""
    knobs: Knobs
    """By which it scales, the defaults filled in."""
    gauges: Gauges
    rates: RatesInfo


def entity_info(controller: Controller, endpoint: Endpoint, entity: Entity) -> EntityInfo:
    watch = controller.reconciler.watches.of(entity.id)
    outlook = watch.scaler.outlook
    chunks = controller.chunks(endpoint, entity)
    newest = controller.timeline.newest(endpoint.id).get(entity.id)
    failing = controller.reconciler.watches.failing(endpoint, entity)
    pending = watch.shut_out and not chunks.loading
    return EntityInfo(
        id=entity.id,
        name=entity.name,
        traffic=entity.traffic,
        state=_state(endpoint, entity, chunks.ready, failing=failing, pending=pending),
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
        price_per_chunk_hour=decimal(entity.price_micro),
        currency=entity.currency,
        start_s=start_s(controller, entity.model),
        chunks_wanted=watch.wanted,
        chunks_pending=watch.missing,
        chunks_ready=chunks.ready,
        chunks_loading=chunks.loading,
        chunks_draining=chunks.draining,
        chunks_in_use=chunks.ready + chunks.draining,
        chunks_billed=newest.billed_chunks if newest else 0,
        scaling_reason=watch.reason,
        scaling_standing=outlook.standing if outlook is not None else None,
        scaling_until_ms=_until_ms(controller, outlook),
        knobs=_knobs(controller, endpoint, entity),
        gauges=controller.gateways.gauges(entity.id),
        rates=rates_info(controller, entity.id),
    )


def _knobs(controller: Controller, endpoint: Endpoint, entity: Entity) -> Knobs:
    knobs = knobs_of(controller.config.scaling, endpoint.options)
    fast_s, slow_s = windows(knobs, float(entity.chunk), entity.model.slots)
    return replace(knobs, fast_window_s=fast_s, slow_window_s=slow_s)


def _until_ms(controller: Controller, outlook: Outlook | None) -> int | None:
    """On the wall clock."""
    if outlook is None or outlook.until is None:
        return None
    clock = controller.clock
    return clock.now_ms() + max(0, round((outlook.until - clock.now()) * 1000))


def _state(endpoint: Endpoint, entity: Entity, ready: int, *, failing: bool, pending: bool) -> State:
    if ready == 0 and (failing or (endpoint.active is None and endpoint.update == "UPDATE_FAILED")):
        return "failed"
    if ready == 0 and pending:
        return "pending"
    if endpoint.active is None:
        return "starting"
    if ready == 0:
        return "asleep" if entity.min_chunks == 0 else "starting"
    return "ready" if ready >= entity.min_chunks else "degraded"


def start_s(controller: Controller, model: ModelSettings) -> float | None:
    """Seconds that the next start of a replica is likely to take; None where nothing is known of it."""
    seen = starts.load(controller.data.profiles, model)
    try:
        return starts.start_s(seen, None if seen else files.find(model, controller.data.profiles))
    except files.ProfileError:
        return None


def rates_info(controller: Controller, of: str) -> RatesInfo:
    mean = controller.series.mean(of, RATES_OVER_S)
    return RatesInfo(
        over_s=RATES_OVER_S,
        input_tokens_s=mean.input_tokens_s if mean else 0.0,
        output_tokens_s=mean.output_tokens_s if mean else 0.0,
        total_tokens_s=mean.total_tokens_s if mean else 0.0,
        reference_tokens_s=mean.reference_tokens_s if mean else 0.0,
        offered_reference_tokens_s=mean.offered_reference_tokens_s if mean else 0.0,
    )
