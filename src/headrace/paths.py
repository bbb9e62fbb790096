"""Where things lie on this machine: the data directory of a server, and the cache of model weights."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel's limit is 108 with the closing zero; some room is left."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """The data directory of one server. Everything that must outlive a restart is in it."""

    root: Path

    def create(self) -> None:
        """Make the folders, readable by their owner alone."""
        for folder in (self.root, self.run, self.journal, self.logs, self.models, self.profiles):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def database(self) -> Path:
        return self.root / "headrace.db"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def models(self) -> Path:
        """The registry: one JSON file a model."""
        return self.root / "models"

    @property
    def profiles(self) -> Path:
        """Measured profiles: one JSON file a model, the newest."""
        return self.root / "profiles"

    @property
    def run(self) -> Path:
        """Sockets, the lock, and the note that says where the server listens."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def server_note(self) -> Path:
        return self.run / "server.json"

    def socket(self, name: str) -> Path:
        """Path of a Unix socket: in ``run/``, or in a private temporary folder where that path would be too long."""
        path = self.run.resolve() / f"{name}.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(self.run.resolve())).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user; use a shorter --data-dir")
        return folder / f"{name}.sock"


def cache_dir() -> Path:
    """The folder for model weights: ``$HEADRACE_CACHE``, else ``headrace`` in the user's cache folder."""
    chosen = os.environ.get("HEADRACE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace"
