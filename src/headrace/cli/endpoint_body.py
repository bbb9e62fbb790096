"""From words on the command line to the config of an endpoint, as Databricks' REST API takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.cli.connection import Connection, path_part
from headrace.cli.entity_option import EntityWords
from headrace.cli.errors import CommandError, UsageError

API = "/api/2.0/serving-endpoints"
MODELS = "/api/headrace/v1/models"

Given = tuple[int | None, int | None]
"""Least and most; None: not said."""


def single(
    server: Connection,
    model: str,
    version: str,
    *,
    chunks: Given,
    rates: Given,
    default: tuple[int, int],
    scale_to_zero: bool,
) -> dict[str, Any]:
    """A config of one served entity. ``rates`` in reference tokens/s; what is not given is ``default``, in chunks."""
    low, high = _range(server, (model, version), chunks=chunks, rates=rates, default=default)
    return {"served_entities": [_entity(model, version, low, high, scale_to_zero=scale_to_zero and low == 0)]}


def in_units(model: str, version: str, units: int) -> dict[str, Any]:
    """A config of one served entity with a fixed size."""
    return {"served_entities": [{"entity_name": model, "entity_version": version, "provisioned_model_units": units}]}


def newest(server: Connection, model: str) -> str:
    """The version of a model that is meant where none is said. Raises ApiError for a model that is not there."""
    versions: list[str] = server.get(f"{MODELS}/{path_part(model)}/versions")["versions"]
    return versions[-1]


def several(server: Connection, words: Sequence[EntityWords], before: Sequence[Mapping[str, Any]] = ()) -> Any:
    """A config of these served entities. What is not said of one stays as in ``before``, by its name."""
    known = {entity["name"]: entity for entity in before}
    entities, routes = [], []
    for one in words:
        old = known.get(one.name)
        same = old if old is not None and old["model"] == one.model else None
        version = one.version or (str(same["model_version"]) if same else newest(server, one.model))
        low, high = _range(
            server,
            (one.model, version),
            chunks=(one.min_chunks, one.max_chunks),
            rates=(None, None),
            default=(old["min_chunks"], old["max_chunks"]) if old else (1, 1),
        )
        to_zero = bool(old and old["scale_to_zero"]) if one.scale_to_zero is None else one.scale_to_zero
        entity = _entity(one.model, version, low, high, scale_to_zero=to_zero and low == 0)
        entities.append({"name": one.name, **entity})
        traffic = one.traffic
        if traffic is None and old is not None and len(words) > 1:
            traffic = old["traffic"]
        if traffic is not None:
            routes.append({"served_entity_name": one.name, "traffic_percentage": traffic})
    if len(entities) > 1 and not routes:
        raise UsageError(
            "say which of the served entities gets which percentage of the requests, such as "
            f"--entity {words[0].name}={words[0].model},traffic=80; they add up to 100"
        )
    return {"served_entities": entities} | ({"traffic_config": {"routes": routes}} if routes else {})


def _range(
    server: Connection, model: tuple[str, str], *, chunks: Given, rates: Given, default: tuple[int, int]
) -> tuple[int, int]:
    """The range in reference tokens/s; what is not given is ``default``, in chunks, but never turned upside down."""
    for one, other, words in ((chunks[0], rates[0], "min"), (chunks[1], rates[1], "max")):
        if one is not None and other is not None:
            raise UsageError(f"give --{words}-chunks or --{words}, not both")
    if rates[0] is not None and rates[1] is not None:
        return rates[0], rates[1]
    chunk = _chunk(server, *model)
    low, high = (
        rate if rate is not None else None if count is None else count * chunk
        for rate, count in zip(rates, chunks, strict=True)
    )
    if low is None:
        low = default[0] * chunk if high is None else min(default[0] * chunk, high)
    return low, max(default[1] * chunk, low) if high is None else high


def _chunk(server: Connection, model: str, version: str) -> int:
    info = server.get(f"{API}/get-model-optimization-info/{path_part(model)}/{path_part(version)}")
    if not info.get("optimizable"):
        why = info.get("message") or f"it has no profile; run `headrace profile {model}` first"
        raise CommandError(f"{model!r} cannot be sold in chunks: {why}")
    return int(info["headrace"]["chunk"])


def _entity(model: str, version: str, low: int, high: int, *, scale_to_zero: bool) -> dict[str, Any]:
    return {
        "entity_name": model,
        "entity_version": version,
        "min_provisioned_throughput": low,
        "max_provisioned_throughput": high,
        "scale_to_zero_enabled": scale_to_zero,
    }
