"""Engines by name."""

from __future__ import annotations

from headrace.engines.base import Engine, EngineError

NAMES = ("llamacpp", "openai", "sglang", "simulated", "vllm")


def engine_for(name: str) -> Engine:
    """The engine of that name, imported when it is first asked for. Raises EngineError."""
    if name == "llamacpp":
        from headrace.engines.llamacpp import LlamaCppEngine  # noqa: PLC0415

        return LlamaCppEngine()
    if name == "openai":
        from headrace.engines.openai import OpenAIEngine  # noqa: PLC0415

        return OpenAIEngine()
    if name == "sglang":
        from headrace.engines.sglang import SglangEngine  # noqa: PLC0415

        return SglangEngine()
    if name == "simulated":
        from headrace.engines.simulated.engine import SimulatedEngine  # noqa: PLC0415

        return SimulatedEngine()
    if name == "vllm":
        from headrace.engines.vllm import VllmEngine  # noqa: PLC0415

        return VllmEngine()
    raise EngineError(f"no engine {name!r}; there are: {', '.join(NAMES)}")
