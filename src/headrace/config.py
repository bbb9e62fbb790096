"""What a server is told: defaults, then ``headrace.toml``, then ``HEADRACE_*``, then flags; the last one wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from headrace.gateway.config import LimitsConfig, Seconds
from headrace.gateway.cors import check_origin

MICRO = 1_000_000
"""Micro-units in one unit of money."""


class ConfigError(Exception):
    """A setting is not usable; the message names where it came from, what it was, and what is expected."""


class FirstEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The endpoint that a server makes for itself when it has never had one."""

    name: str
    model: str


class ScalingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults of the scaling knobs; an endpoint may set its own. None: the law's own default."""

    fast_window_s: float | None = None
    """Demand over it sees a rise. The law's own: three service times of the reference request, at least 10 s."""
    slow_window_s: float | None = None
    """Demand over this window carries a lull."""
    headroom: float | None = None
    """Part of demand to keep free, such as 0.1."""
    down_window_s: float | None = None
    """How long fewer chunks must have sufficed before one is given back."""
    wait_target_s: float | None = None
    """How long queued work may wait before it asks for another chunk."""
    idle_to_zero_s: float | None = None
    """Idle time before the last chunk of an endpoint that may go to zero is given back."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server. The names are those of ``headrace.toml``; ``HEADRACE_PORT`` sets ``port``, and so on."""

    host: str = "127.0.0.1"
    port: int = 8080
    data_dir: str = "headrace-data"
    log_level: str = "INFO"
    price_per_chunk_hour: str = "1.00"
    """Decimal, to the millionth."""
    currency: str = "USD"
    database_url: str | None = None
    """SQLAlchemy URL; None for SQLite in the data directory."""
    on_journal_failure: str = "refuse"
    """While usage cannot be recorded (a full disk): ``refuse`` requests, or ``serve`` them unmetered."""
    tls_cert: str | None = None
    """PEM file: the server's certificate, then its chain."""
    tls_key: str | None = None
    """PEM file, not encrypted."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the data plane from a browser; ``*`` for any."""
    drain_s: Seconds = 20.0
    """For answers in flight to end when the server stops."""
    sse_comment_s: Seconds | None = None
    """After so long without an event a stream on the OpenAI paths gets an SSE comment, for proxies that close what is
    silent. Commits status 200 before the outcome is known. None: never."""
    limits: LimitsConfig = LimitsConfig()
    first_endpoint: FirstEndpoint | None = None
    measure_at_start: bool = True
    """Measure the first endpoint's model, while its profile is provisional."""
    scaling: ScalingConfig = ScalingConfig()
    record_decisions: str | None = None
    """File for every scaling decision with its inputs, to replay them by; it is rotated at 64 MiB, and three older ones
    are kept."""

    @property
    def price_micro(self) -> int:
        """Micro-units of money for one chunk for one hour. Raises ConfigError."""
        try:
            micro = Decimal(self.price_per_chunk_hour) * MICRO
        except InvalidOperation:
            raise ConfigError(
                f"price_per_chunk_hour is {self.price_per_chunk_hour!r}; expected a decimal number such as 1.00"
            ) from None
        if not micro.is_finite() or micro < 0 or micro != micro.to_integral_value():
            raise ConfigError(
                f"price_per_chunk_hour is {self.price_per_chunk_hour!r}; expected zero or more, to six decimal places"
            )
        return int(micro)


def load(
    flags: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> ServerConfig:
    """The configuration from all sources. ``flags`` that are None were not given.

    ``file`` None means ``headrace.toml`` in the working directory where it exists. Raises ConfigError.
    """
    environment = os.environ if environment is None else environment
    settings: dict[str, Any] = _from_file(file)
    limits = settings.get("limits", {})
    settings |= _from_environment(environment)
    if isinstance(limits, dict) and (set_here := _limits_from_environment(environment)):
        settings["limits"] = limits | set_here
    settings |= {name: value for name, value in flags.items() if value is not None}
    try:
        config = msgspec.convert(settings, ServerConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from None
    _check(config)
    return config


def _check(config: ServerConfig) -> None:
    """What types cannot say. Raises ConfigError."""
    if not 0 <= config.port <= 65535:
        raise ConfigError(f"port is {config.port}; expected 1 to 65535, or 0 for any free one")
    if config.on_journal_failure not in ("refuse", "serve"):
        raise ConfigError(f"on_journal_failure is {config.on_journal_failure!r}; expected refuse or serve")
    if (config.tls_cert is None) != (config.tls_key is None):
        missing, given = ("tls_key", "tls_cert") if config.tls_key is None else ("tls_cert", "tls_key")
        raise ConfigError(f"{given} is set and {missing} is not; TLS needs both, plain HTTP neither")
    for origin in config.cors_origins:
        try:
            check_origin(origin)
        except ValueError as error:
            raise ConfigError(f"cors_origins: {error}") from None
    _ = config.price_micro


def _from_file(file: Path | None) -> dict[str, Any]:
    path = file or Path("headrace.toml")
    if file is None and not path.exists():
        return {}
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text())
        return settings
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Plain settings; the tables ``scaling`` and ``first_endpoint`` come from the file or from flags."""
    plain = [name for name in ServerConfig.__struct_fields__ if name not in ("scaling", "first_endpoint", "limits")]
    found: dict[str, Any] = _set_in(environment, "HEADRACE_", plain)
    if "cors_origins" in found:
        found["cors_origins"] = [origin.strip() for origin in found["cors_origins"].split(",")]
    return found


def _limits_from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return _set_in(environment, "HEADRACE_LIMITS_", LimitsConfig.__struct_fields__)


def _set_in(environment: Mapping[str, str], prefix: str, names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := environment.get(prefix + name.upper()))}
