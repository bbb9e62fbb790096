"""How endpoints look: a row each, or one of them with everything that it is and does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from headrace.cli.output import at, chunks, console, counted, number, print_table, span
from headrace.cli.profile_view import profile_label, work_formula
from headrace.cli.scaling_view import knobs, standing


def print_endpoints(endpoints: list[dict[str, Any]]) -> None:
    """One line for each served entity, which is named where an endpoint has several."""
    if not endpoints:
        console().print("There are no endpoints. Create one: headrace endpoints create NAME --model MODEL")
        return
    several = any(len(endpoint["entities"]) > 1 for endpoint in endpoints)
    print_table(
        [
            "endpoint",
            *(("served entity", ">traffic") if several else ()),
            "model",
            "state",
            ">chunks in use",
            ">range in chunks",
            ">range in reference tokens/s",
            "profile",
        ],
        [
            [
                endpoint["name"],
                *((entity["name"], f"{entity['traffic']}%") if several else ()),
                f"{entity['model']}/{entity['model_version']}",
                entity["state"],
                entity["chunks_in_use"],
                span(entity["min_chunks"], entity["max_chunks"]),
                _range(entity),
                _profile(endpoint, entity),
            ]
            for endpoint in endpoints
            for entity in endpoint["entities"]
        ],
    )


def print_endpoint(endpoint: dict[str, Any], permissions: Sequence[str] = ()) -> None:
    """Its range, chunk, profile and scaling, what is wrong with it, and its replicas. ``permissions``: that were given,
    in words."""
    entities = endpoint["entities"]
    several = len(entities) > 1
    if several:
        print_table([endpoint["name"], endpoint["state"]], _facts(endpoint, permissions))
        for entity in entities:
            print_table(
                [f"{endpoint['name']}/{entity['name']}", f"{entity['state']}, {entity['traffic']}% of the traffic"],
                _entity_facts(endpoint, entity),
            )
    else:
        facts = [*_entity_facts(endpoint, entities[0]), *_facts(endpoint, permissions)]
        print_table([endpoint["name"], endpoint["state"]], facts)
    if not endpoint["replicas"]:
        console().print("no replicas")
        return
    print_table(
        [
            "replica",
            *(("served entity",) if several else ()),
            "state",
            ">in flight of slots",
            "cores",
            ">config",
            "since",
            "",
        ],
        [
            [
                replica["id"],
                *((replica["entity"],) if several else ()),
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


def _entity_facts(endpoint: dict[str, Any], entity: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from headrace.policy.work import Weights  # noqa: PLC0415

    context, slots = number(entity["context"]), counted(entity["slots"], "slot")
    yield "model", f"{entity['model']}, version {entity['model_version']}"
    yield "engine", f"{entity['engine']}, {slots} a replica, context {context} tokens a slot"
    yield (
        "range",
        f"{chunks(entity['min_chunks'], entity['max_chunks'])}, {_range(entity)} reference tokens/s"
        + (", scales to zero" if entity["scale_to_zero"] else ""),
    )
    yield "chunk", f"{number(entity['chunk'])} reference tokens/s"
    yield "profile", f"{_profile(endpoint, entity)}: {entity['profile_id']}"
    yield "work", work_formula(Weights(**entity["weights"]))
    yield (
        "chunks now",
        f"{entity['chunks_wanted']} wanted, {entity['chunks_ready']} ready, {entity['chunks_loading']} loading, "
        f"{entity['chunks_draining']} draining, {entity['chunks_billed']} billed",
    )
    last, follows = entity["scaling_reason"] or "none yet", standing(entity)
    yield "last scaling", f"{last}\n{follows}" if follows else last
    yield "scales by", "nothing: autoscaling is off" if entity["scaling_standing"] == "off" else knobs(entity)


def _facts(endpoint: dict[str, Any], permissions: Sequence[str]) -> Iterator[tuple[str, str]]:
    options, pending = endpoint["options"], endpoint["pending_version"]
    yield "overload", options["overload"] + (", falls back" if options["fallback"] else "")
    yield (
        "config",
        f"version {endpoint['config_version']}, {endpoint['config_update']}"
        + (f", version {pending} is to follow" if pending not in (None, endpoint["config_version"]) else ""),
    )
    if options["rate_limits"]:
        yield "rate limits", "\n".join(_limit(limit) for limit in options["rate_limits"])
    if permissions:
        yield "permissions", "\n".join(permissions)
    for problem in endpoint["problems"]:
        yield "problem", problem
    if endpoint["config_update"] == "UPDATE_FAILED":
        events = f"headrace events {endpoint['name']} --kind config_failed --json"
        yield "log", f"last lines of the replica that failed: {events}; all: logs in the server's data directory"


def _limit(limit: dict[str, Any]) -> str:
    """Such as ``each user: 60 calls/min``."""
    kind = limit["key"].replace("_", " ")
    whose = "all callers together" if kind == "endpoint" else f"{kind} {limit['principal']}"
    if kind != "endpoint" and limit["principal"] is None:
        whose = f"each {kind}"
    amounts = [f"{number(limit[of])} {of}/min" for of in ("calls", "tokens") if limit[of] is not None]
    return f"{whose}: {', '.join(amounts)}"


def _range(entity: dict[str, Any]) -> str:
    return span(entity["min_tokens_s"], entity["max_tokens_s"])


def _profile(endpoint: dict[str, Any], entity: dict[str, Any]) -> str:
    return profile_label(entity["profile_status"], simulated=entity["simulated"], measuring=bool(endpoint["measuring"]))
