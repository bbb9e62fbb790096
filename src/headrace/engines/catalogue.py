"""Engines by name: Headrace's own, and those that other packages bring by an entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from headrace.engines.base import Engine, EngineError

NAMES = ("llamacpp", "openai", "sglang", "simulated", "vllm")
GROUP = "headrace.engines"
"""Of entry points: the name of an engine, and the class that implements ``engines.base.Engine``."""


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
    brought = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in brought:
        try:
            return cast(Engine, brought[name].load()())
        except Exception as error:  # code of somebody else
            raise EngineError(f"the engine {name!r} ({brought[name].value}) cannot be loaded: {error}") from error
    known = (*NAMES, *sorted(brought.keys() - set(NAMES)))
    raise EngineError(f"no engine {name!r}; there are: {', '.join(known)}")
