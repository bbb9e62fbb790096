"""The files that ``headrace load`` writes: looked at before the load, that no measurement is lost to a wrong path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.errors import CommandError, UsageError
from headrace.cli.load_compare import records_path

if TYPE_CHECKING:
    from headrace.bench.session import Measured


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where to, as the command line says it; None: not wanted."""

    out: Path | None = None
    csv: Path | None = None
    html: Path | None = None

    def check(self, levels: int) -> None:
        """Raises UsageError for paths that get in each other's way, and CommandError for those that cannot be
        written."""
        records = [] if self.out is None else [records_path(self.out)]
        given = [path for path in (self.out, *records, self.csv, self.html) if path is not None]
        if len({path.resolve() for path in given}) < len(given):
            raise UsageError(
                "--out, --csv and --html need files of their own, and --out a name that does not end in .npz, which "
                "its requests are written to"
            )
        for path in given:
            suffixes = [""] if path == self.html else suffixes_of(levels)
            for suffix in suffixes:
                check_writable(with_suffix(path, suffix))

    def write_level(self, measured: Measured, suffix: str) -> Iterator[str]:
        """One run's figures and requests. Yields what could not be written, and goes on with the rest."""
        from headrace.bench.results import records_file  # noqa: PLC0415
        from headrace.bench.results.write import write_csv, write_json  # noqa: PLC0415

        if self.out is not None:
            out = with_suffix(self.out, suffix)
            yield from _write(out, lambda path: write_json(path, measured.summary))
            yield from _write(records_path(out), lambda path: records_file.save(path, measured.records))
        if self.csv is not None:
            yield from _write(with_suffix(self.csv, suffix), lambda path: write_csv(path, measured.records))

    def read_level(self, suffix: str) -> Measured:
        """A run that was written before. Raises BenchError."""
        from headrace.bench.results import records_file  # noqa: PLC0415
        from headrace.bench.results.write import read_json  # noqa: PLC0415
        from headrace.bench.session import Measured  # noqa: PLC0415

        assert self.out is not None
        out = with_suffix(self.out, suffix)
        return Measured(records_file.load(records_path(out)), read_json(out), interrupted=False)

    def write_report(self, measured: Sequence[Measured]) -> Iterator[str]:
        """Of the last run, with a curve over all of them. Yields what could not be written."""
        from headrace.bench.results.report import write_html  # noqa: PLC0415

        if self.html is not None:
            levels = [one.summary for one in measured] if len(measured) > 1 else []
            shown = measured[-1]
            yield from _write(self.html, lambda path: write_html(path, shown.summary, shown.records, levels=levels))


def suffixes_of(levels: int) -> list[str]:
    """What is added to the names of the files of each level; nothing where there is one."""
    return [f"-{number + 1}" for number in range(levels)] if levels > 1 else [""]


def with_suffix(path: Path, suffix: str) -> Path:
    return path.with_stem(path.stem + suffix) if suffix else path


def check_writable(path: Path) -> None:
    """Raises CommandError where a file cannot be written there."""
    if path.is_dir():
        raise CommandError(f"cannot write {path}: it is a folder; name a file")
    if not path.parent.is_dir():
        raise CommandError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"cannot write {path}: permission denied")


def _write(path: Path, write: Callable[[Path], None]) -> Iterator[str]:
    try:
        write(path)
    except OSError as error:
        yield f"cannot write {path}: {error.strerror or error}"
