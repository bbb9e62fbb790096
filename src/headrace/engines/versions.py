"""Versions of engines, as their replicas report them, known without starting one."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from headrace import __version__


@cache
def installed_version(engine: str) -> str | None:
    """What a replica of the engine would report here; None for one that is not installed or runs elsewhere."""
    if engine == "simulated":
        return f"simulated {__version__}"
    if engine == "llamacpp":
        try:
            return f"xllamacpp {metadata.version('xllamacpp')}"
        except metadata.PackageNotFoundError:
            return None
    return None
