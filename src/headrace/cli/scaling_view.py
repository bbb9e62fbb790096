"""How scaling is told: the last decision with its reason, what follows it, and by which knobs."""

from __future__ import annotations

from typing import Any

from headrace.cli.output import at, print_table
from headrace.cli.times import span


def print_scaling(endpoints: list[dict[str, Any]]) -> None:
    """One line for each served entity; nothing where there are none."""
    if not endpoints:
        return
    several = any(len(endpoint["entities"]) > 1 for endpoint in endpoints)
    print_table(
        ["endpoint", *(("served entity",) if several else ()), ">chunks wanted", "last decision", "what follows"],
        [
            [
                endpoint["name"],
                *((entity["name"],) if several else ()),
                entity["chunks_wanted"],
                entity["scaling_reason"] or "none yet",
                standing(entity),
            ]
            for endpoint in endpoints
            for entity in endpoint["entities"]
        ],
    )


def standing(entity: dict[str, Any]) -> str:
    """What follows the last decision if nothing changes; empty where nothing does."""
    until = at(entity["scaling_until_ms"])
    match entity["scaling_standing"]:
        case "stabilising":
            return f"stabilising: fewer chunks at {until} at the earliest"
        case "idle":
            return f"idle: without a request to zero at {until}"
        case "frozen":
            return "frozen until a gateway reports"
    return ""


def knobs(entity: dict[str, Any]) -> str:
    """Windows and the rest, the defaults filled in."""
    told = entity["knobs"]
    words = (
        f"windows {span(told['fast_window_s'])} and {span(told['slow_window_s'])}, headroom {told['headroom']:.0%}, "
        f"down after {span(told['down_window_s'])}, wait target {span(told['wait_target_s'])}"
    )
    if entity["scale_to_zero"]:
        words += f", to zero after {span(told['idle_to_zero_s'])}"
    return words
