"""What can be sold here: from a range that was asked for to a served entity with its frozen terms, or a refusal."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import msgspec

from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.fleets import pool_of
from headrace.controller.refusal import Refusal
from headrace.controller.words import counted, profiled
from headrace.engines.base import EngineError, ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.models.registry import Registry, RegistryError
from headrace.profiles import files
from headrace.profiles.chunk import nearest_chunks
from headrace.profiles.files import ProfileError
from headrace.profiles.hardware import this_machine
from headrace.profiles.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A served entity as a caller asks for it."""

    name: str | None
    """None: made of the model's name and version."""
    model: str
    version: str | None
    """None: the one that is registered."""
    min_tokens_s: int
    """Reference tokens/s, as is the next."""
    max_tokens_s: int
    scale_to_zero: bool


class Capacity(Protocol):
    """What an offer needs of a fleet."""

    def capacity(self, model: ModelSettings) -> int: ...


class Offers:
    """Models and profiles of this server, and what the machine still holds."""

    def __init__(self, registry: Registry, profiles: Path, fleet: Capacity, *, price_micro: int, currency: str) -> None:
        """``price_micro``: for a chunk-hour of configs made from now on."""
        self._registry = registry
        self._profiles = profiles
        self._fleet = fleet
        self._price_micro = price_micro
        self.currency = currency

    def models(self) -> tuple[ModelSettings, ...]:
        """Raises Refusal for a registry that cannot be read."""
        try:
            return self._registry.list()
        except RegistryError as error:
            raise Refusal("INVALID_PARAMETER_VALUE", str(error)) from None

    def model(self, name: str, version: str | None = None, *, param: str = "entity_name") -> ModelSettings:
        """Settings of a model. Raises Refusal that lists the known ones."""
        try:
            model = self._registry.get(name)
        except RegistryError as error:
            raise Refusal("RESOURCE_DOES_NOT_EXIST", str(error), param=param) from None
        if version is not None and version != model.version:
            raise Refusal(
                "RESOURCE_DOES_NOT_EXIST",
                f"model {name!r} has version {model.version}, not {version}",
                param="entity_version",
            )
        return model

    def profile(self, model: ModelSettings) -> Profile:
        """What is known of a model here, provisional where it was not measured here as it is now. Raises Refusal."""
        try:
            profile = files.find(model.name, self._profiles)
        except ProfileError as error:
            raise Refusal("INVALID_PARAMETER_VALUE", str(error), param="entity_name") from None
        if profile is None:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"model {model.name!r} was never measured here, so there is no chunk to sell; "
                f"run `headrace profile {model.name}` first",
                param="entity_name",
            )
        if files.mismatches(profile, here=this_machine(), sha256=model.sha256, engine_version=None):
            return msgspec.structs.replace(profile, status="provisional")
        return profile

    def entity(
        self, asked: Asked, *, now_ms: int, before: Entity | None, others: Sequence[Endpoint], check: bool = True
    ) -> Entity:
        """The terms that would be frozen now. Raises Refusal.

        ``before``: the entity that this one replaces; it keeps the id of one that runs the same model. ``others``: all
        other endpoints, whose minimums stand. ``check``: whether the model can run is asked of its engine.
        """
        model = self.model(asked.model, asked.version)
        profile = self.profile(model)
        # The chunk was measured with so many requests in flight: that is what a replica gets.
        model = msgspec.structs.replace(model, slots=profile.slots)
        if check:
            try:
                engine_for(model.engine).check(model)
            except EngineError as error:
                raise Refusal(
                    "INVALID_PARAMETER_VALUE", f"model {model.name!r}: {error}", param="entity_name"
                ) from None
        min_chunks, max_chunks = _chunks(asked, model, profile)
        self._check_room(model, min_chunks, max_chunks, profile.chunk, others)
        same = before is not None and before.model == model
        return Entity(
            id=before.id if before is not None and same else uuid.uuid4().hex,
            name=asked.name or f"{model.name}-{model.version}",
            model=model,
            min_chunks=min_chunks,
            max_chunks=max_chunks,
            scale_to_zero=asked.scale_to_zero,
            chunk=profile.chunk,
            weights=profile.weights,
            price_micro=self._price_micro,
            currency=self.currency,
            profile_id=profile.id,
            profile_status=profile.status,
            created_ms=before.created_ms if before is not None and same else now_ms,
        )

    def capacity(self, model: ModelSettings) -> int:
        """Replicas of the model that fit when nothing else runs here."""
        return self._fleet.capacity(model)

    def free(self, model: ModelSettings, others: Sequence[Endpoint]) -> int:
        """Chunks of the model that fit beside the minimums of the other endpoints."""
        capacity = self._fleet.capacity(model)
        if capacity == 0:
            return 0
        taken = sum((self._minimum(endpoint, pool_of(model)) for endpoint in others), Fraction(0))
        return max(0, int((1 - taken) * capacity))

    def _minimum(self, endpoint: Endpoint, pool: str) -> Fraction:
        """Part of a pool that an endpoint's minimum takes, by whichever of its configs takes more."""
        entities = [config.entity for config in (endpoint.active, endpoint.pending) if config is not None]
        parts = [
            Fraction(entity.min_chunks, max(1, self._fleet.capacity(entity.model)))
            for entity in entities
            if pool_of(entity.model) == pool
        ]
        return max(parts, default=Fraction(0))

    def _check_room(
        self, model: ModelSettings, min_chunks: int, max_chunks: int, chunk: int, others: Sequence[Endpoint]
    ) -> None:
        capacity, free = self._fleet.capacity(model), self.free(model, others)
        if max_chunks > capacity:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"max_provisioned_throughput is {counted(max_chunks, 'chunk')} of {chunk} reference tokens/s, and this "
                f"machine holds {counted(capacity, 'replica')} of {model.name!r}: at most {capacity * chunk}",
                param="max_provisioned_throughput",
            )
        if min_chunks > free:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"min_provisioned_throughput is {counted(min_chunks, 'chunk')} of {chunk} reference tokens/s, and "
                f"{free} of {capacity} are free beside the minimums of the other endpoints: at most {free * chunk}; "
                "lower it, or lower another endpoint's minimum",
                param="min_provisioned_throughput",
            )


def _chunks(asked: Asked, model: ModelSettings, profile: Profile) -> tuple[int, int]:
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
            nearest = f"{below} and {above}" if below or param.startswith("min") else f"{above}"
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
            f"min_provisioned_throughput is 0 or missing, which needs scale_to_zero_enabled: true; without it the "
            f"least is one chunk, and {of}",
            param="min_provisioned_throughput",
        )
    return asked.min_tokens_s // chunk, asked.max_tokens_s // chunk
