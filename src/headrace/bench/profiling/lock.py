"""One profile at a time on a machine: two would measure each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.bench.errors import BenchError


def machine_lock() -> Path:
    """The lock file that every user of this machine finds."""
    return Path(tempfile.gettempdir()) / "headrace-profile.lock"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock; it goes free with the process, however that ends. Raises BenchError where another holds it."""
    try:
        # Another user's file may be read, and a reader may lock it; to create it would be refused in a sticky folder.
        handle = os.open(lock, os.O_RDONLY) if lock.exists() else os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise BenchError(f"cannot open the lock {lock}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(
                "another profile is being measured on this machine, and two at once would measure each other; wait "
                "until it has ended"
            ) from None
        yield
    finally:
        os.close(handle)
