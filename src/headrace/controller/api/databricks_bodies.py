"""Whole bodies of the calls that make and change endpoints. A field that is not here and asks for something is refused
by name."""

from __future__ import annotations

from pydantic import Field

from headrace.controller.api.body import Body, Text
from headrace.controller.api.databricks_configs import CoreConfigInput, PtCoreConfigInput
from headrace.controller.api.databricks_options import (
    AiGatewayInput,
    HeadraceInput,
    LegacyRateLimit,
    RateLimits,
    Tag,
    options_of,
)
from headrace.controller.endpoint import Options


class _Create(Body):
    name: str = Field(description="1 to 63 letters, digits, '-' or '_'; none of the words that stand in paths.")
    description: Text = ""
    tags: list[Tag] = Field(default=[])
    ai_gateway: AiGatewayInput = AiGatewayInput()
    headrace: HeadraceInput = HeadraceInput()

    @property
    def tag_pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple((tag.key, tag.value) for tag in self.tags)


class CreateEndpoint(_Create):
    """An endpoint with ranges in tokens/s."""

    config: CoreConfigInput
    rate_limits: list[LegacyRateLimit] = Field(default=[], description="The legacy form of ai_gateway.rate_limits.")

    def options(self) -> Options:
        """Raises Refusal."""
        legacy = RateLimits(rate_limits=self.rate_limits)
        return options_of(self.headrace, self.ai_gateway, legacy, model_units=False)


class CreatePtEndpoint(_Create):
    """An endpoint with fixed sizes in model units."""

    config: PtCoreConfigInput

    def options(self) -> Options:
        """Raises Refusal."""
        return options_of(self.headrace, self.ai_gateway, RateLimits(), model_units=True)


class UpdatePtConfig(Body):
    """The whole new config."""

    config: PtCoreConfigInput
