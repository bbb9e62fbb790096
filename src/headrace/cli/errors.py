"""What a command may say when it fails."""

from __future__ import annotations

import sys


class CommandError(Exception):
    """A command failed for a reason that its user can act on: one line, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class UsageError(CommandError):
    """The words on the command line do not fit together."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=2)


KNOWN = {
    "headrace.config": "ConfigError",
    "headrace.engines.base": "EngineError",
    "headrace.bench.errors": "BenchError",
    "headrace.decisions.reader": "DecisionLogError",
    "headrace.models.pull": "PullError",
    "headrace.models.registry": "RegistryError",
    "headrace.profiles.files": "ProfileError",
}
"""Errors of the layers below whose message is meant for the user."""


def known_errors() -> tuple[type[Exception], ...]:
    """Those of ``KNOWN`` that can have been raised: an error of a module that nobody imported was not."""
    return tuple(getattr(sys.modules[module], name) for module, name in KNOWN.items() if module in sys.modules)
