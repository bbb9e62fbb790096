"""Virtual environments of other programs that a benchmark runs: each its own, made once from its list of pinned
versions."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from process import Failed

from headrace.paths import cache_dir

INSTALL_S = 600


@dataclass(frozen=True)
class Environment:
    """Made from ``requirements``, a file of ``NAME==VERSION`` lines, which names it too."""

    requirements: Path

    @property
    def name(self) -> str:
        return self.requirements.stem

    def version(self, package: str) -> str:
        """The pinned version of a package in the list. Raises ValueError where it is not there."""
        for line in self.requirements.read_text().splitlines():
            found, _, pinned = line.partition("==")
            if found == package:
                return f"{package} {pinned}"
        raise ValueError(f"{self.requirements} does not pin {package}")

    @property
    def folder(self) -> Path:
        """Outside of the repository; another one for every change of the list or of Python."""
        of = self.requirements.read_bytes() + sys.version.encode()
        return cache_dir() / "bench" / f"{self.name}-{hashlib.sha256(of).hexdigest()[:12]}"

    def prepare(self) -> None:
        """Make the environment unless it is there. Raises Failed where something of it cannot be installed."""
        complete = self.folder / "complete"
        if complete.exists():
            return
        print(f"installing {self.name} into {self.folder}", file=sys.stderr, flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # what an interrupted run has left
        try:
            venv.create(self.folder, with_pip=True)
            pip = (self.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            done = subprocess.run(
                [*pip, "-r", str(self.requirements)], capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed(f"its environment cannot be made: {error}") from None
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
            raise Failed(f"cannot be installed: {last[-1][:300]}")
        complete.touch()

    def program(self, command: str) -> str:
        """Path of a command of this environment."""
        return str(self.folder / "bin" / command)
