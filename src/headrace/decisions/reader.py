"""Reads a decision log: the file, and before it those that it was rotated from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.decisions.records import FORMAT, Began, Record, decode
from headrace.decisions.writer import KEPT_FILES


class DecisionLogError(Exception):
    """A file is no decision log, or not one that this version reads; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record and where it stands."""

    file: Path
    number: int
    """From 1."""
    record: Record

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"


def read(path: Path) -> Iterator[Line]:
    """All records in their order. Raises DecisionLogError.

    A line that was cut off by the end of its process is left out: nothing of its segment follows it.
    """
    if not path.is_file():
        raise DecisionLogError(f"there is no file {path}")
    elders = [path.with_name(f"{path.name}.{age}") for age in range(KEPT_FILES - 1, 0, -1)]
    for file in (*(elder for elder in elders if elder.is_file()), path):
        yield from _read(file)


def _read(file: Path) -> Iterator[Line]:
    cut_off: tuple[int, str] | None = None
    first = True
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    if cut_off is not None:
                        raise _broken(file, *cut_off) from None
                    cut_off = number, str(error)
                    continue
                if isinstance(record, Began):
                    if record.format != FORMAT:
                        known = f"this version of Headrace reads format {FORMAT}"
                        raise DecisionLogError(f"{file}:{number} is of format {record.format}; {known}")
                    cut_off, first = None, False
                if cut_off is not None:
                    raise _broken(file, *cut_off)
                if first:
                    raise DecisionLogError(f"{file} does not begin with the start of a segment: a part is missing")
                yield Line(file, number, record)
    except OSError as error:
        raise DecisionLogError(f"cannot read {file}: {error.strerror}") from None
    if first:
        raise DecisionLogError(f"{file} is no decision log: no segment begins in it")


def _broken(file: Path, number: int, why: str) -> DecisionLogError:
    return DecisionLogError(f"{file}:{number} is no record of a decision log: {why}")
