"""The folder beside ``--out`` that holds a run until its files are written, and from which ``--resume`` goes on."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.errors import CommandError

if TYPE_CHECKING:
    from headrace.bench.client.spec import ClientSpec
    from headrace.bench.segments import Earlier
    from headrace.bench.target import Target

FORMAT = "1"
ASKED = "asked.json"
DONE = "done"
CHANGES_BY_ITSELF = "chunks ready"
"""Of what a server tells of itself: a range scales."""


class Unfinished:
    """A run of one level or several. Each has a folder, and in it one for each time that a client was started."""

    def __init__(self, out: Path, specs: Sequence[ClientSpec], target: Target) -> None:
        """Raises CommandError where a file that the requests are made of cannot be read."""
        self._folder = out.with_name(f"{out.name}.unfinished")
        self._out = out
        self._specs = specs
        self._asked = [_asked(spec, target) for spec in specs]
        self._begun = False
        self._held: int | None = None
        """Descriptor of the locked ``asked.json``; the lock goes with the process, however that ends."""

    @property
    def kept(self) -> Path | None:
        """Where something of an interrupted run is, that was not taken up."""
        return self._folder if not self._begun and self._folder.exists() else None

    def check_free(self) -> None:
        """Raises CommandError where the folder is something else, or a run is writing there."""
        if self._folder.exists() and not (self._folder / ASKED).exists():
            raise CommandError(
                f"{self._folder} is in the way: a run is kept there until it has ended; name another --out"
            )
        self._hold()

    def take_up(self) -> None:
        """Raises CommandError where nothing was interrupted, something else was, or a run is writing there."""
        import msgspec  # noqa: PLC0415

        try:
            kept = msgspec.json.decode((self._folder / ASKED).read_bytes(), type=list[dict[str, str]])
        except FileNotFoundError:
            raise CommandError(
                f"there is no interrupted run to go on with: {self._folder} is not there; leave --resume out"
            ) from None
        except OSError as error:
            raise CommandError(f"cannot read {self._folder}: {error.strerror or error}") from None
        except msgspec.DecodeError:
            raise CommandError(f"cannot go on from {self._folder}: its {ASKED} is broken; leave --resume out") from None
        differing = list(dict.fromkeys(_differing(kept, self._asked)))
        if differing:
            raise CommandError(
                f"cannot go on with {self._out}: {'; '.join(differing)}. Say the same as then, or leave --resume out "
                "to begin anew"
            )
        self._hold()
        self._begun = True

    def earlier(self, level: int) -> Earlier:
        """What has been measured of this level, from 0 on. Raises BenchError."""
        from headrace.bench.segments import earlier  # noqa: PLC0415

        return earlier(self._segments(level) if self._begun else [], self._specs[level])

    def segment(self, level: int) -> Path:
        """A new folder for what is measured now; of a run that was not taken up, nothing is left then. Raises
        CommandError."""
        folder = self._level(level)
        try:
            if not self._begun:
                self._begin()
            folder /= str(len(self._segments(level)) + 1)
            folder.mkdir(parents=True)
        except OSError as error:
            raise CommandError(f"cannot write {folder}: {error.strerror or error}") from None
        return folder

    def done(self, level: int) -> bool:
        """All of the level has been measured, and its files are written."""
        return self._begun and (self._level(level) / DONE).exists()

    def set_done(self, level: int) -> None:
        """Its records are in other files now. Raises CommandError."""
        try:
            (self._level(level) / DONE).touch()
        except OSError as error:
            raise CommandError(f"cannot write {self._level(level)}: {error.strerror or error}") from None

    def tidy(self) -> None:
        """Removes what nobody could go on from: no request was sent."""
        from headrace.bench.segments import BEGAN  # noqa: PLC0415

        if self._begun and not any(self._folder.glob(f"*/*/{BEGAN}")):
            self.remove()

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Another run may have the folder now."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _begin(self) -> None:
        """Raises OSError, CommandError."""
        import msgspec  # noqa: PLC0415

        if self._held is None:  # another run may have begun since this one looked
            self._hold()
        self.remove()
        self._folder.mkdir()
        (self._folder / ASKED).write_bytes(msgspec.json.format(msgspec.json.encode(self._asked), indent=2))
        self._hold()
        self._begun = True

    def _hold(self) -> None:
        """Two runs in one folder would delete each other's records. Raises CommandError where another has it."""
        try:
            handle = os.open(self._folder / ASKED, os.O_RDONLY)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CommandError(f"cannot read {self._folder}: {error.strerror or error}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise CommandError(
                f"another run is writing {self._out} now; name another --out, or wait until it has ended"
            ) from None
        self.close()
        self._held = handle

    def _level(self, level: int) -> Path:
        return self._folder / f"level-{level + 1}"

    def _segments(self, level: int) -> list[Path]:
        """In the order in which they were made."""
        folder = self._level(level)
        names = [name for name in os.listdir(folder) if name.isdigit()] if folder.is_dir() else []
        return [folder / name for name in sorted(names, key=int)]


def _asked(spec: ClientSpec, target: Target) -> dict[str, str]:
    """All that decides which requests are sent when, and to what, by name. Raises CommandError."""
    import msgspec  # noqa: PLC0415

    from headrace import __version__  # noqa: PLC0415
    from headrace.bench.results.inputs import flat, without_part  # noqa: PLC0415
    from headrace.bench.workload.spec import Dataset  # noqa: PLC0415

    load = spec.load
    # What is new in every run, and what is found of the server before it.
    content = msgspec.structs.replace(load.content, salt=0, prose=None)
    asked = dict(flat("", msgspec.to_builtins(msgspec.structs.replace(load, content=content))))
    asked = {name: value for name, value in asked.items() if name not in without_part(load)}
    files = [load.content.tokenizer, load.source.path if isinstance(load.source, Dataset) else None]
    return {
        "target": f"{target.model} at {target.url}",
        **{f"server.{name}": value for name, value in target.terms.about.items() if name != CHANGES_BY_ITSELF},
        "client": f"headrace {__version__}",
        **asked,
        **{f"content of {path}": _digest(path) for path in files if path is not None},
        "timeout": f"{spec.timeout_s:g} s",
        "processes": str(spec.processes),
        "retries": str(spec.retries),
        "format of what is kept": FORMAT,
    }


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return f"SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}") from None


def _differing(kept: list[dict[str, str]], asked: list[dict[str, str]]) -> list[str]:
    if len(kept) != len(asked):
        return [f"it has {len(asked)} levels, and had {len(kept)}"]
    return [
        f"{name} is {now.get(name, 'not given')}, and was {then.get(name, 'not given')}"
        for then, now in zip(kept, asked, strict=True)
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
