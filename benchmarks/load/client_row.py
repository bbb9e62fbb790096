"""A load client that is measured: how it is started on a plan, and how what it told is read."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from environments import Environment
from plan import Load, Plan
from told import Told
from truth import Truth

HERE = Path(__file__).parent
PEERS = HERE / "peers"


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)


class ClientRow:
    name: str
    version: str
    settings = ""
    """What its figures are to be read with."""
    start_s = 30.0
    """The longest that it may take from its start to its first request, and from its last one to its end."""
    installed = False
    """In an environment of its own, which has to be made first."""
    open_loop_only = False

    def prepare(self) -> None:
        """Install what it needs. Raises Failed."""

    def command(self, port: int, load: Load, folder: Path) -> Command:
        """``folder``: takes what it writes; empty at the start."""
        raise NotImplementedError

    def told(self, folder: Path, truth: Truth) -> Told:
        """Raises OSError, KeyError and ValueError where it told nothing, or something else than expected."""
        raise NotImplementedError


class ScriptRow(ClientRow):
    """A program of this folder, run by the Python that runs the benchmark; a ``Plan`` on its standard input."""

    file: str

    def command(self, port: int, load: Load, folder: Path) -> Command:
        plan = Plan(port=port, load=load, file=str(folder / "told.npz"))
        return Command((sys.executable, str(HERE / self.file)), stdin=msgspec.json.encode(plan).decode())


class PeerRow(ClientRow):
    """A program of an environment of its own."""

    package: str
    installed = True

    @property
    def environment(self) -> Environment:
        return Environment(PEERS / f"{self.name}.txt")

    @property
    def version(self) -> str:  # type: ignore[override]
        return self.environment.version(self.package)

    def prepare(self) -> None:
        self.environment.prepare()
