"""Chunked coding as it nearly always comes: reads of whole chunks, of sizes that were seen before.

``wire``'s decoder reads any other. It is written to be compiled; this is what is quick as plain Python, since a load is
put on from wherever pip has installed the client.
"""

from __future__ import annotations

import re

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_MOST_KNOWN = 4096
_known: dict[bytes, int] = {}
"""Size lines that were read before: events of one stream differ little in size. Never that of the last chunk."""


def whole_chunks(piece: bytes) -> bytes | None:
    """The data of a read that begins between two chunks, where it is nothing but whole ones; else None. None too where
    a size is new, or data holds a line end of its own."""
    end = piece.find(b"\r\n", 0, 12)
    size = _known.get(piece[:end])
    if size is not None and len(piece) == end + size + 4 and piece.endswith(b"\r\n"):
        return piece[end + 2 : -2]
    lines = piece.split(b"\r\n")
    if lines.pop():
        return None
    sizes, data = lines[::2], lines[1::2]
    if [_known.get(line) for line in sizes] == [len(part) for part in data]:
        return b"".join(data)
    for line in sizes:
        _learn(line)
    return None


def _learn(line: bytes) -> None:
    if len(_known) < _MOST_KNOWN and line not in _known and _SIZE.fullmatch(line) and (size := int(line, 16)):
        _known[line] = size
