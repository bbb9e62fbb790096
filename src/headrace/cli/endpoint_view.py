"""How endpoints look: a row each, or one of them with everything that it is and does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.cli.output import at, console, number, print_table
from headrace.cli.profile_view import profile_label, work_formula


def print_endpoints(endpoints: list[dict[str, Any]]) -> None:
    """One line each."""
    if not endpoints:
        console().print("There are no endpoints. Create one: headrace endpoints create NAME --model MODEL")
        return
    print_table(
        ["endpoint", "model", "state", ">chunks in use", ">range in chunks", ">range in reference tokens/s", "profile"],
        [
            [
                endpoint["name"],
                endpoint["model"],
                endpoint["state"],
                endpoint["chunks_in_use"],
                f"{endpoint['min_chunks']} to {endpoint['max_chunks']}",
                _range(endpoint),
                _profile(endpoint),
            ]
            for endpoint in endpoints
        ],
    )


def print_endpoint(endpoint: dict[str, Any]) -> None:
    """Its range, chunk, profile and scaling, what is wrong with it, and its replicas."""
    print_table([endpoint["name"], endpoint["state"]], _facts(endpoint))
    if not endpoint["replicas"]:
        console().print("no replicas")
        return
    print_table(
        ["replica", "state", ">in flight of slots", "cores", ">config", "since", ""],
        [
            [
                replica["id"],
                replica["state"],
                f"{replica['in_flight']} of {replica['slots']}",
                ", ".join(map(str, replica["cpus"])) or "none of its own",
                replica["config_version"],
                at(replica["draining_ms"] or replica["ready_ms"] or replica["created_ms"]),
                replica["message"] or replica["drain_cause"],
            ]
            for replica in endpoint["replicas"]
        ],
    )


def _facts(endpoint: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from headrace.policy.work import Weights  # noqa: PLC0415

    context, slots = number(endpoint["context"]), endpoint["slots"]
    pending = endpoint["pending_version"]
    yield "model", f"{endpoint['model']}, version {endpoint['model_version']}"
    each = "1 slot" if slots == 1 else f"{slots} slots"
    yield "engine", f"{endpoint['engine']}, {each} a replica, context {context} tokens a slot"
    yield (
        "range",
        f"{endpoint['min_chunks']} to {endpoint['max_chunks']} chunks, {_range(endpoint)} reference tokens/s"
        + (", scales to zero" if endpoint["scale_to_zero"] else ""),
    )
    yield "chunk", f"{number(endpoint['chunk'])} reference tokens/s"
    yield "profile", f"{_profile(endpoint)}: {endpoint['profile_id']}"
    yield "work", work_formula(Weights(**endpoint["weights"]))
    yield (
        "chunks now",
        f"{endpoint['chunks_wanted']} wanted, {endpoint['chunks_ready']} ready, {endpoint['chunks_loading']} loading, "
        f"{endpoint['chunks_draining']} draining, {endpoint['chunks_billed']} billed",
    )
    yield "last scaling", endpoint["scaling_reason"] or "none yet"
    yield (
        "config",
        f"version {endpoint['config_version']}, {endpoint['config_update']}"
        + (f", version {pending} is to follow" if pending not in (None, endpoint["config_version"]) else ""),
    )
    for problem in endpoint["problems"]:
        yield "problem", problem


def _range(endpoint: dict[str, Any]) -> str:
    low, high = (number(endpoint[chunks] * endpoint["chunk"]) for chunks in ("min_chunks", "max_chunks"))
    return f"{low} to {high}"


def _profile(endpoint: dict[str, Any]) -> str:
    return profile_label(
        endpoint["profile_status"], simulated=endpoint["simulated"], measuring=bool(endpoint["measuring"])
    )
