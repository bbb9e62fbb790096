"""Which call of Databricks' REST API makes or changes an endpoint, with what config: in tokens/s or in model units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.cli.connection import Connection, path_part
from headrace.cli.endpoint_body import API, in_units, newest, several, single
from headrace.cli.entity_option import EntityWords, parse
from headrace.cli.errors import UsageError

OWN_API = "/api/headrace/v1/endpoints"

Call = tuple[str, dict[str, Any]]
"""Path, and the config as it takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneEntity:
    """What was said of an endpoint's only served entity; None where it was not."""

    model: str | None
    version: str | None
    min_chunks: int | None
    max_chunks: int | None
    min_tokens_s: int | None
    max_tokens_s: int | None
    scale_to_zero: bool | None
    units: int | None
    """Model units, in place of a range."""

    def __post_init__(self) -> None:
        """Raises UsageError for two kinds of size."""
        if self.units is not None and self._range_said:
            raise UsageError(
                "--units is a fixed size in model units: leave --min-chunks, --max-chunks, --min, --max and "
                "--scale-to-zero out"
            )

    @property
    def said(self) -> bool:
        """Anything."""
        return self._range_said or any(one is not None for one in (self.model, self.version, self.units))

    @property
    def _range_said(self) -> bool:
        of_range = (self.min_chunks, self.max_chunks, self.min_tokens_s, self.max_tokens_s, self.scale_to_zero)
        return any(one is not None for one in of_range)


def entities_of(texts: Sequence[str] | None, one: OneEntity) -> list[EntityWords]:
    """Of each ``--entity``. Raises UsageError where options for one served entity stand beside them."""
    words = [parse(text) for text in texts or ()]
    if words and one.said:
        raise UsageError(
            "--entity says model and range by itself; leave --model, the range, --units and --scale-to-zero out"
        )
    return words


def first_config(server: Connection, one: OneEntity, words: Sequence[EntityWords]) -> Call:
    """For a new endpoint; of one chunk where nothing else is said. Raises UsageError."""
    if words:
        return API, several(server, words)
    if one.model is None:
        raise UsageError("say what to serve: --model MODEL, or --entity for each of several")
    version = one.version or newest(server, one.model)
    if one.units is not None:
        return f"{API}/pt", in_units(one.model, version, one.units)
    return API, _in_tokens(server, one, one.model, version, default=(1, 1), scale_to_zero=False)


def next_config(server: Connection, name: str, one: OneEntity, words: Sequence[EntityWords]) -> Call:
    """For one that is there: what is not said stays, in chunks. Raises UsageError."""
    path = f"{API}/{path_part(name)}/config"
    now = server.get(f"{OWN_API}/{path_part(name)}")["entities"]
    if words:
        return path, several(server, words, now)
    if len(now) > 1:
        names = ", ".join(entity["name"] for entity in now)
        raise UsageError(f"{name!r} has {len(now)} served entities ({names}): give each that it is to have as --entity")
    [old] = now
    model = one.model or old["model"]
    version = one.version or (str(old["model_version"]) if model == old["model"] else newest(server, model))
    if one.units is not None:
        return f"{API}/pt/{path_part(name)}/config", {"config": in_units(model, version, one.units)}
    default = (old["min_chunks"], old["max_chunks"])
    return path, _in_tokens(server, one, model, version, default=default, scale_to_zero=bool(old["scale_to_zero"]))


def _in_tokens(
    server: Connection, one: OneEntity, model: str, version: str, *, default: tuple[int, int], scale_to_zero: bool
) -> dict[str, Any]:
    return single(
        server,
        model,
        version,
        chunks=(one.min_chunks, one.max_chunks),
        rates=(one.min_tokens_s, one.max_tokens_s),
        default=default,
        scale_to_zero=scale_to_zero if one.scale_to_zero is None else one.scale_to_zero,
    )
