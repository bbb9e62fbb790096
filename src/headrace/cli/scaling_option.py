"""Options of commands that say how an endpoint scales, and the object of the REST API that they make."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from headrace.cli.errors import UsageError
from headrace.cli.times import seconds

DEFAULT = "default"

AutoscalingOption = Annotated[
    str | None,
    typer.Option("--autoscaling", metavar="on|off", help="off: chunks stay at the minimum of the range. Default on."),
]
FastWindowOption = Annotated[
    str | None,
    typer.Option(
        "--fast-window",
        metavar="TIME",
        help="Such as 30s or 2m. Demand over it sees a rise; `default` for the server's.",
    ),
]
SlowWindowOption = Annotated[
    str | None, typer.Option("--slow-window", metavar="TIME", help="Demand over it carries a lull.")
]
HeadroomOption = Annotated[
    str | None, typer.Option("--headroom", metavar="PART", help="Part of the demand to keep free, such as 0.1.")
]
DownWindowOption = Annotated[
    str | None,
    typer.Option("--down-window", metavar="TIME", help="How long fewer chunks must have sufficed before one goes."),
]
WaitTargetOption = Annotated[
    str | None,
    typer.Option("--wait-target", metavar="TIME", help="Queued work that would wait longer asks for a chunk."),
]
IdleToZeroOption = Annotated[
    str | None,
    typer.Option("--idle-to-zero", metavar="TIME", help="Idle time before the last chunk goes, where min is 0."),
]


def scaling_options(
    autoscaling: str | None,
    *,
    fast_window: str | None,
    slow_window: str | None,
    headroom: str | None,
    down_window: str | None,
    wait_target: str | None,
    idle_to_zero: str | None,
) -> dict[str, Any]:
    """What was said, as ``headrace`` in a create body and as the body of a PATCH. Raises UsageError."""
    if autoscaling not in (None, "on", "off"):
        raise UsageError(f"--autoscaling is {autoscaling!r}; expected on or off")
    knobs = {
        "fast_window_s": _time("--fast-window", fast_window),
        "slow_window_s": _time("--slow-window", slow_window),
        "headroom": _number("--headroom", headroom),
        "down_window_s": _time("--down-window", down_window),
        "wait_target_s": _time("--wait-target", wait_target),
        "idle_to_zero_s": _time("--idle-to-zero", idle_to_zero),
    }
    said = {name: None if value == DEFAULT else value for name, value in knobs.items() if value is not None}
    return ({"autoscaling": autoscaling} if autoscaling else {}) | ({"scaling": said} if said else {})


def _time(option: str, text: str | None) -> float | str | None:
    """Seconds."""
    return text if text is None or text == DEFAULT else seconds(option, text, least=0)


def _number(option: str, text: str | None) -> float | str | None:
    """Whether it is a sensible one is the server's to say."""
    if text is None or text == DEFAULT:
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{option} is {text!r}; expected a number, or {DEFAULT} for the server's")
    return value
