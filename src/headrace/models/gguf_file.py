"""The header of a GGUF file, read in milliseconds: enough to refuse a file that cannot run, and to convert one.

Format: the GGUF specification of the ggml project, versions 2 and 3 (little-endian). A header is a magic number, a
version, counts, key-value pairs, and one description a tensor; tensor data follows, each tensor aligned.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MOST_DIMENSIONS = 4

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

# Tensor type -> (elements in a block, bytes of a block), as in ggml's type table.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


class GGUFError(Exception):
    """Not a GGUF file that can run; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's description. ``shape`` is in file order: the first dimension is the contiguous one."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    """Bytes from the start of the data section."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int | None:
        """None for a type that is newer than this reader."""
        block = _BLOCKS.get(self.type)
        return None if block is None else self.elements // block[0] * block[1]


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself."""

    version: int
    metadata: dict[str, Any]
    """Scalars and strings by key; arrays are left out."""
    positions: dict[str, int]
    """Byte offset in the file of the value of each scalar or string."""
    pairs: tuple[int, int]
    """Byte range in the file of all key-value pairs."""
    pair_count: int
    tensors: tuple[Tensor, ...]
    data_start: int
    alignment: int

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def context_length(self) -> int:
        """Tokens of context that the model was trained with."""
        return int(self.metadata[f"{self.architecture}.context_length"])


def read_header(path: Path) -> Header:
    """Header of the file, checked against the file's size. Raises GGUFError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise GGUFError(f"{path} is empty; fetch or copy it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _Reader(path, data).header()
    except OSError as error:
        raise GGUFError(f"cannot read {path}: {error.strerror}") from None
    needed = header.data_start + max((t.offset + (t.nbytes or 0) for t in header.tensors), default=0)
    if size < needed:
        raise GGUFError(
            f"{path} is truncated: its header describes {needed:,} bytes, the file has {size:,}; fetch or copy it again"
        )
    return header


class _Reader:
    """A cursor over the mapped file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.at = 0

    def header(self) -> Header:
        if self.data[:4] != MAGIC:
            raise GGUFError(f"{self.path} is not a GGUF file: it starts with {self.data[:4]!r}, expected {MAGIC!r}")
        try:
            return self._header()
        except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
            raise GGUFError(
                f"{self.path} has a broken GGUF header near byte {self.at:,} ({error}); fetch or copy it again"
            ) from None

    def _header(self) -> Header:
        self.at = 4
        version = self._scalar("<I")
        if version not in VERSIONS:
            raise GGUFError(f"{self.path} is GGUF version {version}; expected 2 or 3, little-endian")
        tensor_count, pair_count = self._scalar("<Q"), self._scalar("<Q")
        start = self.at
        metadata: dict[str, Any] = {}
        positions: dict[str, int] = {}
        for _ in range(pair_count):
            key = self._string()
            value_type = self._scalar("<I")
            positions[key] = self.at
            if value_type == _ARRAY:
                self._skip_array()
            else:
                metadata[key] = self._value(value_type)
        pairs = (start, self.at)
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise GGUFError(f"{self.path} has an alignment of {alignment!r}; fetch or copy it again")
        self._require(metadata, tensors)
        return Header(
            version=version,
            metadata=metadata,
            positions=positions,
            pairs=pairs,
            pair_count=pair_count,
            tensors=tensors,
            data_start=aligned(self.at, alignment),
            alignment=alignment,
        )

    def _require(self, metadata: dict[str, Any], tensors: tuple[Tensor, ...]) -> None:
        architecture = metadata.get("general.architecture")
        if not architecture:
            raise GGUFError(f"{self.path} names no general.architecture; it is not a model that can run")
        context = metadata.get(f"{architecture}.context_length")
        if not isinstance(context, int) or context <= 0:
            raise GGUFError(f"{self.path} names no {architecture}.context_length; it is not a language model")
        if not tensors:
            raise GGUFError(f"{self.path} holds no tensors (a vocabulary only?); a whole model is needed")

    def _scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def _string(self) -> str:
        length = self._scalar("<Q")
        text = self._take(length).decode()
        return text

    def _take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise IndexError("end of file")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _value(self, value_type: int) -> Any:
        if value_type == _STRING:
            return self._string()
        form = _SCALARS.get(value_type)
        if form is None:
            raise IndexError(f"value type {value_type}")
        return self._scalar(form)

    def _skip_array(self) -> None:
        item_type = self._scalar("<I")
        count = self._scalar("<Q")
        if item_type == _STRING:
            unpack, at, size = struct.Struct("<Q").unpack_from, self.at, len(self.data)
            for _ in range(count):
                at += 8 + unpack(self.data, at)[0]
                if at > size:
                    raise IndexError("end of file")
            self.at = at
        elif item_type == _ARRAY:
            for _ in range(count):
                self._skip_array()
        elif item_type in _SCALARS:
            self.at += count * struct.calcsize(_SCALARS[item_type])
        else:
            raise IndexError(f"array of type {item_type}")

    def _tensor(self) -> Tensor:
        name = self._string()
        dimensions = self._scalar("<I")
        if dimensions > MOST_DIMENSIONS:
            raise IndexError(f"a tensor of {dimensions} dimensions")
        shape = tuple(self._scalar("<Q") for _ in range(dimensions))
        return Tensor(name=name, shape=shape, type=self._scalar("<I"), offset=self._scalar("<Q"))


def aligned(position: int, alignment: int) -> int:
    """The next multiple of ``alignment`` at or after ``position``."""
    return -(-position // alignment) * alignment
