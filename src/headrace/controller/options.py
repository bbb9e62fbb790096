"""Options of an endpoint: what is wrong with them, and what a change of them changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Entity, Options, RateLimit
from headrace.controller.refusal import Refusal
from headrace.controller.words import counted

DAY_S, WEEK_S = 86_400, 604_800
LONGEST_WAIT_S = 297
"""A request ends then, whatever it waits for."""


def check_values(options: Options) -> None:
    """Each by itself. Raises Refusal."""
    scaling = options.scaling
    bounds: tuple[tuple[str, float | None, float, float], ...] = (
        ("queue_deadline_s", options.queue_deadline_s, 0, LONGEST_WAIT_S),
        ("cold_start_deadline_s", options.cold_start_deadline_s, 0, LONGEST_WAIT_S),
        ("max_queue", options.max_queue, 0, 1_000_000),
        ("scaling.fast_window_s", scaling.fast_window_s, 1, DAY_S),
        ("scaling.slow_window_s", scaling.slow_window_s, 1, DAY_S),
        ("scaling.headroom", scaling.headroom, 0, 10),
        ("scaling.down_window_s", scaling.down_window_s, 0, DAY_S),
        ("scaling.wait_target_s", scaling.wait_target_s, 0.1, 3_600),
        ("scaling.idle_to_zero_s", scaling.idle_to_zero_s, 1, WEEK_S),
    )
    for name, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            raise _refused(name, f"{name} is {value:g}; expected {low:g} to {high:g}")


def check_fit(options: Options, entities: Sequence[Entity]) -> None:
    """With what the endpoint serves. Raises Refusal."""
    if options.overload == "spill" and len(entities) == 1:
        raise _refused(
            "overload",
            "overload is 'spill', and with one served entity there is nowhere to spill to; give it two or more, or "
            "make an endpoint with 'queue' or 'reject'",
        )
    zero = [entity.name for entity in entities if entity.min_chunks == 0]
    if not options.autoscaling and zero:
        raise _refused(
            "autoscaling",
            f"autoscaling is off, which keeps the minimum of the range, and that of {', '.join(zero)} is 0: nothing "
            "could ever be served; give it a minimum of one chunk or more, or leave autoscaling on",
        )


def told(options: Options) -> dict[str, Any]:
    """As they are asked for: the ``headrace`` object of a create body."""
    told: dict[str, Any] = msgspec.to_builtins(options)
    return told | {"autoscaling": "on" if options.autoscaling else "off"}


def differences(before: Options, after: Options) -> Iterator[str]:
    """In words, option by option; a knob that is None is the server's default."""
    for name in Options.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, ScalingConfig):
            for knob in ScalingConfig.__struct_fields__:
                was, now = getattr(old, knob), getattr(new, knob)
                if was != now:
                    yield f"{name}.{knob} {_told(was)} -> {_told(now)}"
        elif old != new:
            yield f"{name} {_told(old)} -> {_told(new)}"


def changes(before: Options, after: Options) -> dict[str, Any]:
    """For programs: what each changed option was and is, as they are asked for."""
    was, now = told(before), told(after)
    return {name: {"from": was[name], "to": now[name]} for name in now if was[name] != now[name]}


def _told(value: object) -> str:
    match value:
        case None:
            return "default"
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case tuple():
            return " and ".join(_limit(limit) for limit in value) or "none"
    return str(value)


def _limit(limit: RateLimit) -> str:
    """``each user 5 calls, 900 tokens a minute``."""
    whose = limit.key.replace("_", " ")
    if limit.key != "endpoint":
        whose = f"{whose} {limit.principal!r}" if limit.principal else f"each {whose}"
    amounts = [(limit.calls, "call"), (limit.tokens, "token")]
    return f"{whose} {', '.join(counted(amount, noun) for amount, noun in amounts if amount is not None)} a minute"


def _refused(name: str, message: str) -> Refusal:
    return Refusal("INVALID_PARAMETER_VALUE", message, param=f"headrace.{name}")
