"""Engines that are programs with an HTTP server of their own, such as vLLM and SGLang.

Each is one file that says how its command line is made of a model's settings. ``program_replica`` runs what comes out:
it is the replica process, the program is its child. None of these programs is a dependency of Headrace.
"""

from __future__ import annotations

import json
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.engines.base import EngineError, EngineTraits, ModelSettings, ReplicaSpec

READY_WITHIN_S = 1800.0
"""For weights of hundreds of GiB that may have to be fetched first, and for the compilation of kernels."""

REPLICA = (sys.executable, "-P", "-m", "headrace.engines.program_replica")
"""The command of a replica. -P: a file of the working folder must not pass for one of our modules."""

GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Read by CUDA, and by ROCm's builds of these programs."""

OF_ANY_PROGRAM = {
    "host": "a replica listens on 127.0.0.1 alone",
    "port": "the replica's port is chosen at its start",
    "api-key": "the replica's key is made at its start",
}
"""Flags that Headrace sets, whatever the program, with what sets them."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to start."""

    argv: tuple[str, ...]
    """Without secrets: every user of the machine may read it."""
    environment: Mapping[str, str] = field(repr=False)
    """What is added to that of the replica process; may hold secrets."""


class ProgramEngine(ABC):
    """What is the same for all of them (``base.Engine``); an engine adds what is its own, and ``launch``."""

    name: str
    """The engine's, and its program's."""
    install: str
    """The line that installs the program."""
    version_at: tuple[str, str]
    """Where its HTTP server tells its version: a path, and the member of the object that is there."""
    ours: Mapping[str, str]
    """More flags as in ``OF_ANY_PROGRAM``."""
    negatable: bool = False
    """A flag that is a switch has its opposite, with ``--no-``."""
    ready_within_s: float = READY_WITHIN_S

    def traits(self, model: ModelSettings) -> EngineTraits:
        # Cancels when the client leaves, keeps connections, tells its usage: a well-behaved server.
        return EngineTraits(upstream_model=model.name)

    def check(self, model: ModelSettings) -> None:
        """Raises EngineError."""
        self.program(model)
        weights_of(model)
        self.extra_flags(model)

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        return REPLICA

    @abstractmethod
    def launch(self, spec: ReplicaSpec, port: int, folder: Path) -> Launch:
        """The program for a replica that listens on this port of 127.0.0.1. ``folder`` is for files of its own, and is
        readable by nobody else. Raises EngineError."""

    def program(self, model: ModelSettings) -> str:
        """Its path: as the model says, on the search path, or beside this Python. Raises EngineError."""
        name = self.name
        if model.program is not None:
            found = shutil.which(str(Path(model.program).expanduser()))
            if found is None:
                raise EngineError(
                    f"{model.program} is not a program that can be run; --program takes the path of {name!r}"
                )
            return found
        found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
        if found is None:
            raise EngineError(
                f"there is no program {name!r} here; install it with `{self.install}`, best into a virtual environment "
                f"of its own, and name that one's with --program /path/to/bin/{name}"
            )
        return found

    def extra_flags(self, model: ModelSettings) -> tuple[str, ...]:
        """The model's engine arguments as command-line flags: ``{"dtype": "bfloat16"}`` is ``--dtype bfloat16``.

        True is the flag alone, false its negation where the program has that, a list its items one after another, an
        object JSON. Raises EngineError.
        """
        ours = {**OF_ANY_PROGRAM, **self.ours}
        flags: list[str] = []
        for name, value in model.engine_args.items():
            flag = name.replace("_", "-").strip("-")
            if flag in ours or flag.removeprefix("no-") in ours:
                raise EngineError(f"engine argument {name!r}: {ours.get(flag) or ours[flag.removeprefix('no-')]}")
            if not flag or not flag.replace("-", "").replace(".", "").isalnum():
                raise EngineError(
                    f"engine argument {name!r} is not the name of a flag, such as dtype or max-num-batched-tokens"
                )
            flags += _flag(flag, value, negatable=self.negatable)
        return tuple(flags)


def weights_of(model: ModelSettings) -> str:
    """What the program is to load. Raises EngineError where that cannot be."""
    if not model.weights:
        raise EngineError(
            f"a model of the engine {model.engine} needs weights: a folder on this machine, or a name at a model hub "
            "such as Qwen/Qwen3-0.6B"
        )
    if model.weights.startswith(("/", ".", "~")):
        path = Path(model.weights).expanduser()
        if not path.exists():
            raise EngineError(f"there is no {path}; weights are a folder on this machine, or a name at a model hub")
        return str(path.resolve())
    if model.weights.startswith("-"):
        raise EngineError(f"{model.weights!r} is not the name of weights")
    return model.weights


def _flag(flag: str, value: Any, *, negatable: bool) -> Sequence[str]:
    match value:
        case True:
            return (f"--{flag}",)
        case False if negatable:
            return (f"--no-{flag}",)
        case False:
            return ()
        case str() | int() | float():
            return (f"--{flag}", str(value))
        case [*items] if items and all(isinstance(item, str | int | float) for item in items):
            return (f"--{flag}", *map(str, items))
        case dict():
            return (f"--{flag}", json.dumps(value))
    raise EngineError(
        f"engine argument {flag!r} is {json.dumps(value)}; expected text, a number, true, false, a list of such, or an "
        "object"
    )
