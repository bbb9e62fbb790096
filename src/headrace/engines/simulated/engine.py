"""The simulated engine, for the registry of engines."""

from __future__ import annotations

import sys

from headrace.engines.base import READY_WITHIN_S, EngineTraits, ModelSettings
from headrace.engines.simulated.arguments import arguments


class SimulatedEngine:
    """Implements ``engines.base.Engine``."""

    name = "simulated"
    ready_within_s = READY_WITHIN_S

    def traits(self, model: ModelSettings) -> EngineTraits:
        return EngineTraits()

    def check(self, model: ModelSettings) -> None:
        """Raises EngineError where ``engine_args`` are not what it takes."""
        arguments(model)

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        return (sys.executable, "-m", "headrace.engines.simulated")
