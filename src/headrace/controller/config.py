"""What a controller is told: one JSON document on standard input."""

from __future__ import annotations

import msgspec

from headrace.config import FirstEndpoint, ScalingConfig


class ControllerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sockets are ``DataDir(data_dir).socket("controller")``, ``"link"`` and ``"supervisor"``."""

    data_dir: str
    """Absolute."""
    price_micro: int
    """Micro-units of money for one chunk for one hour, for configs made from now on."""
    currency: str = "USD"
    database_url: str | None = None
    """SQLAlchemy URL; None for SQLite in the data directory."""
    first_endpoint: FirstEndpoint | None = None
    """Made when the store has never had an endpoint."""
    measure_at_start: bool = True
    """Measure its model, while the profile of that is provisional."""
    scaling: ScalingConfig = ScalingConfig()
    record_decisions: str | None = None
    """File for every scaling decision with its inputs, absolute; None for no record."""
    log_level: str = "INFO"
