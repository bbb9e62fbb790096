"""Bodies that say what an endpoint is to serve: in tokens/s or in model units, as served entities or by their legacy
name, served models."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from headrace.controller.api.body import Body, Bool, Int, Version
from headrace.controller.asked import AskedConfig, AskedEntity, AskedRoute
from headrace.controller.refusal import Refusal

Name = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)]
"""Of a served entity. None: that which the entity has now, or ``MODEL-VERSION``."""


class _Served(Body):
    """A range in reference tokens/s."""

    name: Name = Field(default=None, max_length=255, description="Unique in the endpoint.")
    min_provisioned_throughput: Int = Field(
        default=0, description="Reference tokens/s, whole chunks; 0 needs scale to zero."
    )
    max_provisioned_throughput: Int = Field(description="Reference tokens/s, whole chunks.")
    scale_to_zero_enabled: Bool = Field(default=False, description="With a minimum of 0, idle means no replica.")

    def _asked(self, model: str, version: str | None) -> AskedEntity:
        return AskedEntity(
            name=self.name,
            model=model,
            version=version,
            min_tokens_s=self.min_provisioned_throughput,
            max_tokens_s=self.max_provisioned_throughput,
            scale_to_zero=self.scale_to_zero_enabled,
        )


class ServedEntityInput(_Served):
    """A model version with its range."""

    entity_name: str = Field(description="A registered model.")
    entity_version: Version = Field(default=None, description="By default the one that is served, else the newest.")

    def asked(self) -> AskedEntity:
        return self._asked(self.entity_name, self.entity_version)


class ServedModelInput(_Served):
    """The legacy twin."""

    model_name: str = Field(description="A registered model.")
    model_version: Version = Field(default=None, description="By default the one that is served, else the newest.")

    def asked(self) -> AskedEntity:
        return self._asked(self.model_name, self.model_version)


class PtServedModel(Body):
    """A model version with a fixed size in model units."""

    name: Name = Field(default=None, max_length=255, description="Unique in the endpoint.")
    entity_name: str = Field(description="A registered model.")
    entity_version: Version = Field(default=None, description="By default the one that is served, else the newest.")
    provisioned_model_units: Int = Field(
        description="Whole chunks; a chunk is 50 units where the model's settings say nothing else."
    )
    burst_scaling_enabled: Bool | None = Field(
        default=None, description="The size is fixed whether this is true or not; the reply says so."
    )

    def asked(self) -> AskedEntity:
        return AskedEntity(
            name=self.name, model=self.entity_name, version=self.entity_version, units=self.provisioned_model_units
        )


class Route(Body):
    """A part of the requests for one served entity."""

    served_entity_name: str | None = None
    served_model_name: str | None = Field(default=None, description="The legacy name of served_entity_name.")
    traffic_percentage: Int = Field(description="0 to 100; those of all routes add up to 100.")

    def asked(self) -> AskedRoute:
        """Raises Refusal for one that does not say where to."""
        names = {self.served_entity_name, self.served_model_name} - {None, ""}
        if len(names) != 1:
            told = " and ".join(sorted(map(repr, names))) or "nothing"
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"a route names {told}; expected the name of one served entity as served_entity_name",
                param="traffic_config",
            )
        return AskedRoute(entity=str(names.pop()), percentage=self.traffic_percentage)


class TrafficConfig(Body):
    """Required with several served entities; with one, all goes there."""

    routes: list[Route] = Field(default=[])

    def asked(self) -> tuple[AskedRoute, ...]:
        return tuple(route.asked() for route in self.routes)


class CoreConfigInput(Body):
    """What an endpoint is to serve, in full."""

    name: str | None = Field(default=None, description="Of the endpoint, as some clients repeat it here.")
    served_entities: list[ServedEntityInput] = Field(default=[])
    served_models: list[ServedModelInput] = Field(default=[], description="The legacy name of served_entities.")
    traffic_config: TrafficConfig = TrafficConfig()

    def asked(self, endpoint: str) -> AskedConfig:
        """Raises Refusal for a config of another endpoint, and for one that is given in both forms."""
        if self.name and self.name != endpoint:
            raise Refusal(
                "INVALID_PARAMETER_VALUE", f"the config is for {self.name!r}, the call for {endpoint!r}", param="name"
            )
        if self.served_entities and self.served_models:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                "both served_entities and served_models are given; these are two names of one thing: give the first",
                param="served_models",
            )
        served = self.served_entities or self.served_models
        return AskedConfig(entities=tuple(one.asked() for one in served), routes=self.traffic_config.asked())


class PtCoreConfigInput(Body):
    """The same in model units."""

    served_entities: list[PtServedModel] = Field(default=[])
    traffic_config: TrafficConfig = TrafficConfig()

    def asked(self) -> AskedConfig:
        return AskedConfig(
            entities=tuple(one.asked() for one in self.served_entities), routes=self.traffic_config.asked()
        )
