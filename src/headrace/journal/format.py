"""How a record lies in a file: one line, ``crc32 of the JSON in 8 hex digits, a space, the JSON``.

JSON escapes newlines, so a line feed always ends a record: a damaged line costs itself and nothing after it. Files of
one writer are ``<writer>.<sequence>.journal``, and the sequence only grows.
"""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

import msgspec

from headrace.journal.records import Record

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)

_PREFIX = 9
"""Bytes before the JSON: 8 hex digits and a space."""

_FILE = re.compile(r"(?P<writer>[A-Za-z0-9_-]+)\.(?P<sequence>[0-9]{6,})\.journal")
_WRITER = re.compile(r"[A-Za-z0-9_-]{1,100}")


class BadLine(ValueError):
    """The line is not a record; the message says why and never quotes it."""


def encode_line(record: Record) -> bytes:
    body = _encode(record)
    return b"%08x %b\n" % (crc32(body), body)


def decode_line(line: bytes) -> Record:
    """The record of one line without its line feed. Raises BadLine."""
    body = line[_PREFIX:]
    if line[:_PREFIX] != b"%08x " % crc32(body):
        raise BadLine("checksum does not match")
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadLine(f"not a known record: {error}") from None


def check_writer_id(writer_id: str) -> None:
    """Raise ValueError unless it can be part of a file name."""
    if not _WRITER.fullmatch(writer_id):
        raise ValueError(f"a journal writer's id is 1 to 100 of A-Z a-z 0-9 _ -, not {writer_id!r}")


def file_name(writer_id: str, sequence: int) -> str:
    return f"{writer_id}.{sequence:06d}.journal"


def list_files(folder: Path) -> dict[str, list[int]]:
    """Writers that have files in the folder, each with the sequences of its files in order."""
    found: dict[str, list[int]] = {}
    for path in folder.iterdir():
        match = _FILE.fullmatch(path.name)
        if match:
            found.setdefault(match["writer"], []).append(int(match["sequence"]))
    return {writer: sorted(found[writer]) for writer in sorted(found)}
