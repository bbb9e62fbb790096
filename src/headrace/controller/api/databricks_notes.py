"""What was asked of an endpoint and is done otherwise, in words: ``headrace.notes`` of the replies."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.config import ScalingConfig
from headrace.controller.access import Access
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.principals import Principal
from headrace.controller.scaler import knobs_of
from headrace.controller.units import units, units_per_chunk
from headrace.controller.words import counted
from headrace.policy.scaling import windows

USAGE_IS_KEPT = "usage_tracking_config: the usage of every request is kept, for the bill, so usage tracking stays on"


def notes(controller: Controller, endpoint: Endpoint) -> list[str]:
    """As long as the endpoint is as it is."""
    of_size = _fixed if endpoint.options.model_units else _never_zero
    told = [note for entity in endpoint.target.entities for note in of_size(entity)]
    return [*told, *_window_notes(controller.config.scaling, endpoint), *limit_notes(controller.access, endpoint)]


def limit_notes(access: Access, endpoint: Endpoint) -> list[str]:
    """Of its rate limits that hold for nobody."""
    return [_absent(principal) for principal in access.absent(endpoint)]


def _window_notes(defaults: ScalingConfig, endpoint: Endpoint) -> Iterator[str]:
    """Of a slow window that was asked for and is shorter than the fast one."""
    own = endpoint.options.scaling
    if own.slow_window_s is None and own.fast_window_s is None:
        return
    knobs = knobs_of(defaults, endpoint.options)
    for entity in endpoint.target.entities:
        fast_s, slow_s = windows(knobs, float(entity.chunk), entity.model.slots)
        if slow_s > knobs.slow_window_s:
            yield (
                f"{entity.name}: scaling.slow_window_s is {knobs.slow_window_s:g}, and the slow window {slow_s:.0f} s, "
                f"as long as the fast one: it is never shorter; give {fast_s:.0f} or more, or a shorter fast_window_s"
            )


def _fixed(entity: Entity) -> Iterator[str]:
    yield (
        f"{entity.name}: {units(entity)} model units are {counted(entity.max_chunks, 'chunk')} of {entity.chunk} "
        f"reference tokens/s ({units_per_chunk(entity.model)} units each), a fixed size: nothing is served above it, "
        "with burst_scaling_enabled or without"
    )


def _never_zero(entity: Entity) -> Iterator[str]:
    if entity.scale_to_zero and entity.min_chunks:
        yield (
            f"{entity.name}: it does not scale to zero, as scale_to_zero_enabled says, but to its minimum of "
            f"{counted(entity.min_chunks, 'chunk')}; for zero give min_provisioned_throughput: 0"
        )


def _absent(principal: Principal) -> str:
    if principal.kind == "user":
        return (
            f"rate_limits: no key was ever made for {principal.words}, so its limit holds for nobody; `headrace keys "
            "list` shows whose keys there are"
        )
    return (
        f"rate_limits: there is no {principal.words}, so its limit holds for nobody; `headrace service-principals "
        "list` shows those that there are"
    )
