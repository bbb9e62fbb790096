"""Files of datasets: plain, or packed with gzip or xz, told by what is in them and not by their names."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO, cast

from headrace.bench.errors import BenchError

_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"


@contextmanager
def opened(path: str, newline: str | None = None) -> Iterator[TextIO]:
    """The text of a file. Whatever is wrong with it while it is read is a BenchError that names it."""
    try:
        with _unpacked(path) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline=newline)
    except UnicodeDecodeError:
        raise BenchError(f"{path} is not UTF-8 text; expected a dataset, plain or packed with gzip or xz") from None
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise BenchError(f"{path} cannot be unpacked ({error}): it is cut off or damaged; expected it whole") from None
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from None


def lines(path: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    with opened(path) as text:
        for number, line in enumerate(text, start=1):
            if stripped := line.strip():
                yield number, stripped


def _unpacked(path: str) -> BinaryIO:
    with open(path, "rb") as raw:
        start = raw.read(len(_XZ))
    if start.startswith(_GZIP):
        return cast(BinaryIO, gzip.open(path))
    if start == _XZ:
        return cast(BinaryIO, lzma.open(path))
    return open(path, "rb")
