"""From a size that was asked for, in tokens/s or in model units, to whole chunks, or to a refusal that names sizes."""

from __future__ import annotations

from headrace.controller.asked import AskedEntity
from headrace.controller.endpoint import Endpoint
from headrace.controller.refusal import Refusal
from headrace.controller.units import units_per_chunk
from headrace.controller.words import profiled
from headrace.engines.base import ModelSettings
from headrace.profiles.chunk import nearest_chunks
from headrace.profiles.profile import Profile

TO_ZERO = "scale_to_zero_enabled: true (`headrace endpoints`: --scale-to-zero)"


def chunks(asked: AskedEntity, model: ModelSettings, profile: Profile) -> tuple[int, int]:
    """Least and most. Raises Refusal for what is not whole chunks, empty, or upside down."""
    if asked.units is not None:
        count = _of_units(asked.units, model, profile)
        return count, count
    return _of_tokens(asked, model, profile)


def check_unit(endpoint: Endpoint, *, in_units: bool) -> None:
    """An endpoint keeps the unit that it was made in. Raises Refusal."""
    if endpoint.options.model_units != in_units:
        path = f"/api/2.0/serving-endpoints/{endpoint.name}/config"
        kept, call = "tokens/s", f"PUT {path} with min_ and max_provisioned_throughput"
        if endpoint.options.model_units:
            path = f"/api/2.0/serving-endpoints/pt/{endpoint.name}/config"
            kept, call = "model units", f"PUT {path} with provisioned_model_units (`headrace endpoints update --units`)"
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"the size of endpoint {endpoint.name!r} is in {kept} since it was made: call {call}, or make another one",
            param="served_entities",
        )


def most(asked: AskedEntity, model: ModelSettings, count: int, chunk: int) -> tuple[str, str]:
    """How ``count`` chunks are asked for: the field for a maximum, and its value."""
    if asked.units is not None:
        return "provisioned_model_units", str(count * units_per_chunk(model))
    return "max_provisioned_throughput", str(count * chunk)


def least(asked: AskedEntity, model: ModelSettings, count: int, chunk: int) -> tuple[str, str]:
    """The same for a minimum."""
    field, value = most(asked, model, count, chunk)
    return field.replace("max_", "min_"), value


def _of_units(units: int, model: ModelSettings, profile: Profile) -> int:
    each = units_per_chunk(model)
    of = f"one chunk of {model.name!r} is {each} model units, {profile.chunk} reference tokens/s here " + (
        f"({profiled(profile.status, model.engine)})"
    )
    if units <= 0:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"provisioned_model_units is {units}; it must be one chunk or more, and {of}",
            param="provisioned_model_units",
        )
    below, above = nearest_chunks(units, each)
    if below != above:
        nearest = f"{below} and {above}" if below else f"{above}"
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"provisioned_model_units is {units}, which is not a whole number of chunks: {of}; the nearest valid: "
            f"{nearest}",
            param="provisioned_model_units",
        )
    return units // each


def _of_tokens(asked: AskedEntity, model: ModelSettings, profile: Profile) -> tuple[int, int]:
    """The range in chunks. Raises Refusal for one that is not whole chunks, empty, or upside down."""
    chunk = profile.chunk
    of = f"one chunk of {model.name!r} is {chunk} reference tokens/s here ({profiled(profile.status, model.engine)})"
    if asked.max_tokens_s <= 0:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"max_provisioned_throughput is {asked.max_tokens_s}; it must be one chunk or more, and {of}",
            param="max_provisioned_throughput",
        )
    for param, value in (
        ("min_provisioned_throughput", asked.min_tokens_s),
        ("max_provisioned_throughput", asked.max_tokens_s),
    ):
        if value < 0:
            raise Refusal("INVALID_PARAMETER_VALUE", f"{param} is {value}; it must not be negative", param=param)
        below, above = nearest_chunks(value, chunk)
        if below != above:
            nearest = f"{below} and {above}" if below else f"{above}"
            if not below and param.startswith("min"):
                nearest = f"{above}, or 0 with {TO_ZERO}"
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{param} is {value}, which is not a whole number of chunks: {of}; the nearest valid: {nearest}",
                param=param,
            )
    if asked.min_tokens_s > asked.max_tokens_s:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"min_provisioned_throughput is {asked.min_tokens_s}, above max_provisioned_throughput, "
            f"{asked.max_tokens_s}",
            param="min_provisioned_throughput",
        )
    if asked.min_tokens_s == 0 and not asked.scale_to_zero:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"min_provisioned_throughput is 0 or missing, which needs {TO_ZERO}; without it the "
            f"least is one chunk, and {of}",
            param="min_provisioned_throughput",
        )
    return asked.min_tokens_s // chunk, asked.max_tokens_s // chunk
