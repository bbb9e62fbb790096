"""What can be sold here: from ranges that were asked for to served entities with their frozen terms, or a refusal."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import msgspec

from headrace.controller import ranges
from headrace.controller.allotment import Shares, fitting
from headrace.controller.asked import MOST_ENTITIES, AskedConfig, AskedEntity, entity_names, traffic, version_served
from headrace.controller.endpoint import Config, Endpoint, Entity
from headrace.controller.refusal import Refusal
from headrace.controller.words import counted
from headrace.engines.base import EngineError, ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.engines.versions import installed_version
from headrace.models.registry import Registry, RegistryError, VersionError
from headrace.profiles import files, validity
from headrace.profiles.files import ProfileError
from headrace.profiles.hardware import this_machine
from headrace.profiles.profile import Profile


class Capacity(Protocol):
    """What an offer needs of a fleet."""

    def capacity(self, model: ModelSettings) -> int: ...
    def shares(self, model: ModelSettings) -> Shares: ...


class Offers:
    """Models and profiles of this server, and what the machine still holds."""

    def __init__(self, registry: Registry, profiles: Path, fleet: Capacity, *, price_micro: int, currency: str) -> None:
        """``price_micro``: for a chunk-hour of configs made from now on."""
        self._registry = registry
        self._profiles = profiles
        self._fleet = fleet
        self.price_micro = price_micro
        self.currency = currency
        self._here = this_machine()

    def models(self) -> tuple[ModelSettings, ...]:
        """Raises Refusal for a registry that cannot be read."""
        try:
            return self._registry.list()
        except RegistryError as error:
            raise Refusal("INVALID_PARAMETER_VALUE", str(error)) from None

    def model(self, name: str, version: str | None = None, *, param: str = "entity_name") -> ModelSettings:
        """Settings of a version of a model, by default the newest. Raises Refusal that lists the known ones."""
        try:
            return self._registry.get(name, version)
        except RegistryError as error:
            param = "entity_version" if isinstance(error, VersionError) else param
            raise Refusal("RESOURCE_DOES_NOT_EXIST", str(error), param=param) from None

    def versions(self, name: str) -> tuple[str, ...]:
        """Of a model, the oldest first. Raises Refusal for one that is not there."""
        self.model(name, param="name")
        return self._registry.versions(name)

    def spec(self, model: ModelSettings) -> str:
        """As a command has to name it: with its version, where that is not the newest."""
        return self._registry.spec(model)

    def profile(self, model: ModelSettings) -> Profile:
        """What is known of a model here: doubtful where its measurement was not valid, provisional where it was not
        measured here as it is now. Raises Refusal."""
        try:
            profile = files.find(model, self._profiles)
            other = files.of_another_engine(model, self._profiles)
        except ProfileError as error:
            raise Refusal("INVALID_PARAMETER_VALUE", str(error), param="entity_name") from None
        if profile is None:
            by = "" if other is None else f" by the engine {model.engine}, only by the engine {other}"
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"model {model.name!r} was never measured here{by}, so there is no chunk to sell; "
                f"run `headrace profile {self.spec(model)}` first",
                param="entity_name",
            )
        if profile.problems:
            return msgspec.structs.replace(profile, status="doubtful")
        return msgspec.structs.replace(profile, status="provisional") if self.mismatches(model, profile) else profile

    def mismatches(self, model: ModelSettings, profile: Profile) -> list[str]:
        """In words, why the figures of a profile may not hold for the model as it is here."""
        version = installed_version(model.engine)
        return validity.mismatches(profile, model, here=self._here, engine_version=version)

    def doubts(self, model: ModelSettings) -> list[str]:
        """In words, why the model should be measured again; nothing where it never was."""
        try:
            profile = files.find(model, self._profiles)
        except ProfileError as error:
            return [str(error)]
        return [] if profile is None else self.mismatches(model, profile) + validity.invalid(profile)

    def sold_by(self, entity: Entity) -> Profile | None:
        """The profile by which an entity was sold, if it is still the newest."""
        try:
            profile = files.find(entity.model, self._profiles)
        except ProfileError:
            return None
        return profile if profile is not None and profile.id == entity.profile_id else None

    def outdated(self, entity: Entity) -> list[str]:
        """In words, why the profile by which an entity was sold does not hold here, if it is still the newest."""
        profile = self.sold_by(entity)
        if profile is None:
            return []
        try:
            model = self.model(entity.model.name, entity.model.version)
            return self.mismatches(model, profile) + validity.invalid(profile)
        except Refusal:
            return validity.invalid(profile)

    def entities(
        self, asked: AskedConfig, *, now_ms: int, before: Config | None, others: Sequence[Endpoint]
    ) -> tuple[Entity, ...]:
        """The terms that would be frozen now. Raises Refusal.

        ``before``: the config that this one replaces; what runs the same model keeps its id, and so its replicas.
        ``others``: all other endpoints, whose minimums stand.
        """
        count = len(asked.entities)
        if not 1 <= count <= MOST_ENTITIES:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{counted(count, 'served entity')}; an endpoint has 1 to {MOST_ENTITIES}",
                param="served_entities",
            )
        served = before.entities if before else ()
        models = [self.model(one.model, one.version or version_served(one, served)) for one in asked.entities]
        names = entity_names(asked.entities, models, served)
        parts = traffic(asked.routes, names)
        entities: list[Entity] = []
        for one, model, name, part in zip(asked.entities, models, names, parts, strict=True):
            try:
                entities.append(self._entity(one, model, name, part, now_ms=now_ms))
                self._check_room(one, entities, others)
            except Refusal as refusal:
                if count == 1:
                    raise
                message = f"served entity {name!r}: {refusal.message}"
                raise Refusal(refusal.code, message, param=refusal.param) from None
        return _adopt(entities, served)

    def capacity(self, model: ModelSettings) -> int:
        """Replicas of the model that fit when nothing else runs here."""
        return self._fleet.capacity(model)

    def _entity(self, asked: AskedEntity, model: ModelSettings, name: str, part: int, *, now_ms: int) -> Entity:
        """One that nothing was before."""
        profile = self.profile(model)
        # The chunk was measured with so many requests in flight: that is what a replica gets.
        model = msgspec.structs.replace(model, slots=profile.slots)
        try:
            engine_for(model.engine).check(model)
        except EngineError as error:
            raise Refusal("INVALID_PARAMETER_VALUE", f"model {model.name!r}: {error}", param="entity_name") from None
        min_chunks, max_chunks = ranges.chunks(asked, model, profile)
        return Entity(
            id=uuid.uuid4().hex,
            name=name,
            model=model,
            traffic=part,
            min_chunks=min_chunks,
            max_chunks=max_chunks,
            scale_to_zero=asked.scale_to_zero,
            chunk=profile.chunk,
            weights=profile.weights,
            price_micro=self.price_micro,
            currency=self.currency,
            profile_id=profile.id,
            profile_status=profile.status,
            created_ms=now_ms,
        )

    def _minimum(self, entities: Sequence[Entity], thing: str) -> Fraction:
        """Part of what replicas share that the minimums of served entities take together."""
        parts = (self._fleet.shares(one.model).get(thing, Fraction(0)) * one.min_chunks for one in entities)
        return sum(parts, Fraction(0))

    def _free(self, model: ModelSettings, beside: Sequence[Entity], others: Sequence[Endpoint]) -> int:
        """Chunks of the model that fit beside the minimums of ``beside`` and of other endpoints.

        An endpoint that is being updated takes what the larger of its two configs needs.
        """
        if self._fleet.capacity(model) == 0:
            return 0
        shares, occupied = self._fleet.shares(model), dict[str, Fraction]()
        for thing in shares:
            occupied[thing] = self._minimum(beside, thing)
            for endpoint in others:
                configs = [config for config in (endpoint.active, endpoint.pending) if config is not None]
                needs = (self._minimum(config.entities, thing) for config in configs)
                occupied[thing] += max(needs, default=Fraction(0))
        return fitting(shares, occupied)

    def _check_room(self, asked: AskedEntity, entities: Sequence[Entity], others: Sequence[Endpoint]) -> None:
        """Whether the last of an endpoint's entities fits the machine, beside those before it and ``others``."""
        entity = entities[-1]
        model, chunk = entity.model, entity.chunk
        capacity, free = self._fleet.capacity(model), self._free(model, entities[:-1], others)
        if entity.max_chunks > capacity:
            param, largest = ranges.most(asked, model, capacity, chunk)
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{param} is {counted(entity.max_chunks, 'chunk')} of {chunk} reference tokens/s, "
                f"and this machine holds {counted(capacity, 'replica')} of {model.name!r}: at most {largest}",
                param=param,
            )
        if entity.min_chunks > free:
            param, largest = ranges.least(asked, model, free, chunk)
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{param} is {counted(entity.min_chunks, 'chunk')} of {chunk} reference tokens/s, "
                f"and {free} of {capacity} are free beside the other minimums: at most {largest}; lower it, or "
                "lower another one",
                param=param,
            )


def _adopt(entities: Sequence[Entity], before: Sequence[Entity]) -> tuple[Entity, ...]:
    """Each keeps the id of what ran the same model before: of the one of its name, else of one that is left."""
    left = list(before)
    kept: dict[int, Entity] = {}
    for same_name in (True, False):
        for place, entity in enumerate(entities):
            fitting = (one for one in left if one.model == entity.model and (one.name == entity.name or not same_name))
            if place not in kept and (one := next(fitting, None)) is not None:
                kept[place] = msgspec.structs.replace(entity, id=one.id, created_ms=one.created_ms)
                left.remove(one)
    return tuple(kept.get(place, entity) for place, entity in enumerate(entities))
