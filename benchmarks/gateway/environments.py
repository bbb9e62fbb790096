"""Virtual environments of the peers: each its own, made once from its list of pinned versions in ``peers/``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from process import Failed

from headrace.paths import cache_dir

PEERS = Path(__file__).parent / "peers"
INSTALL_S = 600


def requirements(name: str) -> Path:
    return PEERS / f"{name}.txt"


def version(name: str, package: str) -> str:
    """The pinned version of a package in the list of this peer."""
    for line in requirements(name).read_text().splitlines():
        found, _, pinned = line.partition("==")
        if found == package:
            return f"{package} {pinned}"
    raise ValueError(f"{requirements(name)} does not pin {package}")


def location(name: str) -> Path:
    """Outside of the repository; another one for every change of the list or of Python."""
    of = requirements(name).read_bytes() + sys.version.encode()
    return cache_dir() / "bench" / f"{name}-{hashlib.sha256(of).hexdigest()[:12]}"


def prepare(name: str) -> None:
    """Make the environment unless it is there. Raises Failed where something of it cannot be installed."""
    folder = location(name)
    complete = folder / "complete"
    if complete.exists():
        return
    print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run has left
    try:
        venv.create(folder, with_pip=True)
        pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        done = subprocess.run(
            [*pip, "-r", str(requirements(name))], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"its environment cannot be made: {error}") from None
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
        raise Failed(f"cannot be installed: {last[-1][:300]}")
    complete.touch()


def program(name: str, command: str) -> str:
    """Path of a command of this peer's environment."""
    return str(location(name) / "bin" / command)
