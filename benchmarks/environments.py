"""Virtual environments of other programs, which benchmarks and tests of clients run: each its own, made once from its
list of pinned versions.

    python environments.py FOLDER LIST...

makes those of the lists in a folder, beside each other; what is not in a list is left out.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from process import Failed

from headrace.paths import cache_dir

INSTALL_S = 600


@dataclass(frozen=True)
class Environment:
    """Made from ``requirements``, a file of ``NAME==VERSION`` lines, which names it too."""

    requirements: Path
    under: Path = field(default_factory=lambda: cache_dir() / "bench")
    """Where it is kept."""
    complete: bool = False
    """The list is all that is installed, whatever its packages say that they need besides."""

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
        """Another one for every change of the list or of Python."""
        of = self.requirements.read_bytes() + sys.version.encode()
        return self.under / f"{self.name}-{hashlib.sha256(of).hexdigest()[:12]}"

    @property
    def _made(self) -> Path:
        return self.folder / "complete"

    @property
    def is_there(self) -> bool:
        return self._made.exists()

    def prepare(self) -> None:
        """Make the environment unless it is there. Raises Failed where something of it cannot be installed."""
        if self.is_there:
            return
        print(f"installing {self.name} into {self.folder}", file=sys.stderr, flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # what an interrupted run has left
        try:
            venv.create(self.folder, with_pip=True)
            pip = (self.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            what = (*(("--no-deps",) if self.complete else ()), "-r", str(self.requirements))
            done = subprocess.run([*pip, *what], capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed(f"its environment cannot be made: {error}") from None
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
            raise Failed(f"cannot be installed: {last[-1][:300]}")
        self._made.touch()

    def program(self, command: str) -> str:
        """Path of a command of this environment."""
        return str(self.folder / "bin" / command)


def main(folder: str, *lists: str) -> None:
    """Prepare them all at once: each waits for the network most of its time."""
    environments = [Environment(Path(one), Path(folder).resolve(), complete=True) for one in lists]
    with ThreadPoolExecutor(len(environments)) as threads:
        done = {environment: threads.submit(environment.prepare) for environment in environments}
    failures = [f"{environment.name}: {failed}" for environment, one in done.items() if (failed := one.exception())]
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
