"""Bodies that say how an endpoint treats requests: Databricks' AI gateway and rate limits, and Headrace's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, Field

from headrace.config import ScalingConfig
from headrace.controller.api.body import Body, Bool, Int, Number, Text
from headrace.controller.api.databricks_notes import USAGE_IS_KEPT
from headrace.controller.endpoint import Options, RateLimit
from headrace.controller.refusal import Refusal

MOST_LIMITS = 20


class ScalingInput(Body):
    """What is left out is the server's default."""

    fast_window_s: Number | None = Field(default=None, description="Demand over it sees a rise.")
    slow_window_s: Number | None = Field(default=None, description="Demand over it carries a lull.")
    headroom: Number | None = Field(default=None, description="Part of demand to keep free, such as 0.1.")
    down_window_s: Number | None = Field(default=None, description="How long fewer chunks must have sufficed.")
    wait_target_s: Number | None = Field(
        default=None, description="How long queued work may wait before it asks for a chunk."
    )
    idle_to_zero_s: Number | None = Field(default=None, description="Idle time before the last chunk is given back.")


class HeadraceInput(Body):
    """What Headrace adds to an endpoint."""

    overload: Literal["queue", "reject", "spill"] = Field(
        default="queue", description="spill: to the next served entity that can take the request at once."
    )
    fallback: Bool | None = Field(
        default=None, description="The same as ai_gateway.fallback_config.enabled; by default false."
    )
    queue_deadline_s: Number = Field(default=30.0, description="How long a request may wait, 0 to 297.")
    cold_start_deadline_s: Number = Field(default=290.0, description="The same where there is no replica yet.")
    max_queue: Int = Field(default=1000, description="Requests that may wait.")
    scaling: ScalingInput = ScalingInput()
    autoscaling: Literal["on", "off"] = Field(default="on", description="off: chunks stay at the minimum of the range.")

    def changed(self, options: Options) -> Options:
        """What was named is changed, the rest stays; ``scaling`` is replaced as a whole."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if "scaling" in given:
            given["scaling"] = msgspec.convert(self.scaling.model_dump(), ScalingConfig)
        if "autoscaling" in given:
            given["autoscaling"] = self.autoscaling == "on"
        return msgspec.structs.replace(options, **given)


class FallbackConfig(Body):
    enabled: Bool = Field(default=False, description="A request that one entity answers 429 or 5xx tries the next.")


class UsageTrackingConfig(Body):
    enabled: Bool = Field(
        default=True, description="The usage of every request is kept whatever this says; the reply says so."
    )


def _no_group(value: Any) -> Any:
    """Raises Refusal."""
    if value == "user_group":
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            "rate_limits: key 'user_group' is not supported by Headrace, which knows no groups with limits of their "
            "own; give a limit for 'endpoint', 'user' or 'service_principal'",
            param="rate_limits",
        )
    return value


Amount = Annotated[Int, Field(ge=0)]


class AiGatewayRateLimit(Body):
    """How much may be asked in any minute. 0 closes the endpoint to those it holds for."""

    calls: Amount | None = Field(default=None, description="Requests.")
    tokens: Amount | None = Field(default=None, description="Raw input + output tokens.")
    key: Annotated[Literal["endpoint", "user", "service_principal"], BeforeValidator(_no_group)] = Field(
        default="endpoint", description="Who shares it: all together, or each user or service principal by itself."
    )
    principal: Text | None = Field(
        default=None, max_length=255, description="The one user or service principal that it holds for; else each."
    )
    renewal_period: Literal["minute"] = "minute"

    def limit(self) -> RateLimit:
        return RateLimit(key=self.key, principal=self.principal or None, calls=self.calls, tokens=self.tokens)


class LegacyRateLimit(Body):
    """Calls a minute."""

    calls: Amount = Field(description="Requests; 0 closes the endpoint to those it holds for.")
    key: Literal["endpoint", "user"] = "endpoint"
    renewal_period: Literal["minute"] = "minute"

    def limit(self) -> RateLimit:
        return RateLimit(key=self.key, calls=self.calls)


class AiGatewayInput(Body):
    """What is left out is switched off."""

    fallback_config: FallbackConfig = FallbackConfig()
    usage_tracking_config: UsageTrackingConfig = UsageTrackingConfig()
    rate_limits: list[AiGatewayRateLimit] = Field(default=[], max_length=MOST_LIMITS)

    @property
    def notes(self) -> list[str]:
        """On what is asked for and done otherwise."""
        return [] if self.usage_tracking_config.enabled else [USAGE_IS_KEPT]

    def changed(self, options: Options) -> Options:
        """Replaces all that it speaks of. Raises Refusal."""
        limits = checked([one.limit() for one in self.rate_limits])
        return msgspec.structs.replace(options, fallback=self.fallback_config.enabled, rate_limits=limits)


class RateLimits(Body):
    """All that are to hold; none: no limit."""

    rate_limits: list[LegacyRateLimit] = Field(default=[], max_length=MOST_LIMITS)

    def changed(self, options: Options) -> Options:
        """Raises Refusal."""
        limits = checked([one.limit() for one in self.rate_limits])
        return msgspec.structs.replace(options, rate_limits=limits)


class Tag(Body):
    key: Text
    value: Text = ""


class PatchTags(Body):
    add_tags: list[Tag] = Field(default=[])
    delete_tags: list[str] = Field(default=[])


class NothingAsked(Body):
    """Of notifications or telemetry: null, empty or switched off. What asks for something is refused."""


def checked(limits: Sequence[RateLimit]) -> tuple[RateLimit, ...]:
    """Raises Refusal for one that limits nothing, or speaks of the same callers as another."""
    seen: set[tuple[str, str | None]] = set()
    for limit in limits:
        whose = f"{limit.key} {limit.principal!r}" if limit.principal else limit.key
        problem = None
        if limit.calls is None and limit.tokens is None:
            problem = f"the one for {whose} has neither calls nor tokens; give at least one of them"
        elif limit.key == "endpoint" and limit.principal is not None:
            problem = f"key 'endpoint' is for all callers together, and {limit.principal!r} is named; leave it out"
        elif (limit.key, limit.principal) in seen:
            problem = f"two are for {whose}; put calls and tokens into one of them"
        if problem is not None:
            raise Refusal("INVALID_PARAMETER_VALUE", f"rate_limits: {problem}", param="rate_limits")
        seen.add((limit.key, limit.principal))
    return tuple(limits)


def options_of(headrace: HeadraceInput, gateway: AiGatewayInput, legacy: RateLimits, *, model_units: bool) -> Options:
    """Of a new endpoint. Raises Refusal where two places for one option disagree."""
    asked = gateway.fallback_config.enabled if "fallback_config" in gateway.model_fields_set else None
    given = {headrace.fallback, asked} - {None}
    if len(given) == 2:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            "headrace.fallback and ai_gateway.fallback_config.enabled say two things; leave one of them out",
            param="headrace.fallback",
        )
    if gateway.rate_limits and legacy.rate_limits:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            "both rate_limits and ai_gateway.rate_limits are given; the first is the legacy form: give the second",
            param="rate_limits",
        )
    options = headrace.changed(gateway.changed(Options(model_units=model_units)))
    if legacy.rate_limits:
        options = legacy.changed(options)
    return msgspec.structs.replace(options, fallback=True in given)
