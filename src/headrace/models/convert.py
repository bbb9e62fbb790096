"""Re-quantise a GGUF file to Q8_0.

On processors without fast 4-bit kernels Q8_0 prefills faster than Q4_1 (measured: 30% more tokens/s at 2048/256, the
same perplexity). Every quantised matrix is expanded to float32 and packed as Q8_0; what is already Q8_0, and what is
float, is copied. The metadata (tokenizer, chat template, everything) is copied byte for byte, but for the file type.
The result is the same on every machine.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO

from headrace.models.gguf_file import MAGIC, Header, Tensor, aligned, read_header

F32, F16, Q8_0, BF16 = 0, 1, 8, 30
FILE_TYPE_MOSTLY_Q8_0 = 7
BLOCK = 32
"""Elements of a Q8_0 block; it takes 34 bytes."""

Progress = Callable[[int, int], None]
"""Called with bytes of tensors written and bytes in all."""


def to_q8_0(source: Path, target: Path, progress: Progress | None = None) -> None:
    """Write ``source`` as Q8_0 to ``target``, which appears whole or not at all.

    Raises GGUFError for a source that is broken, OSError for a full disk. Holds one tensor in memory at a time.
    """
    header = read_header(source)
    plan = _plan(header)
    total = sum(new.nbytes or 0 for _, new in plan)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with source.open("rb") as read, partial.open("wb") as write:
            start = _write_header(read, write, header, [new for _, new in plan])
            done = 0
            for old, new in plan:
                write.seek(start + new.offset)
                data = _packed(read, header, old, new)
                write.write(data)
                done += len(data)
                if progress is not None:
                    progress(done, total)
            write.truncate(aligned(write.tell(), header.alignment))
            write.flush()
            os.fsync(write.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _plan(header: Header) -> list[tuple[Tensor, Tensor]]:
    """Each tensor as it is, and as it will be."""
    plan: list[tuple[Tensor, Tensor]] = []
    offset = 0
    for old in header.tensors:
        quantised = old.type not in (F32, F16, BF16) and len(old.shape) > 1 and old.shape[0] % BLOCK == 0
        new = Tensor(name=old.name, shape=old.shape, type=Q8_0 if quantised else old.type, offset=offset)
        if new.nbytes is None:
            raise ValueError(f"tensor {old.name} has a type unknown to this converter: {old.type}")
        plan.append((old, new))
        offset = aligned(offset + new.nbytes, header.alignment)
    return plan


def _write_header(read: IO[bytes], write: IO[bytes], header: Header, tensors: list[Tensor]) -> int:
    """Returns the position at which the data section starts."""
    write.write(MAGIC + struct.pack("<IQQ", header.version, len(tensors), header.pair_count))
    begin, end = header.pairs
    read.seek(begin)
    pairs = bytearray(read.read(end - begin))
    file_type = header.positions.get("general.file_type")
    if file_type is not None:
        struct.pack_into("<I", pairs, file_type - begin, FILE_TYPE_MOSTLY_Q8_0)
    write.write(pairs)
    for tensor in tensors:
        name = tensor.name.encode()
        write.write(struct.pack("<Q", len(name)) + name + struct.pack("<I", len(tensor.shape)))
        write.write(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape))
        write.write(struct.pack("<IQ", tensor.type, tensor.offset))
    return aligned(write.tell(), header.alignment)


def _packed(read: IO[bytes], header: Header, old: Tensor, new: Tensor) -> bytes:
    # Imported here: NumPy and gguf take 0.3 s, and only a conversion needs them.
    import numpy as np  # noqa: PLC0415
    from gguf.constants import GGMLQuantizationType  # noqa: PLC0415
    from gguf.quants import dequantize, quantize  # noqa: PLC0415

    assert old.nbytes is not None  # _plan refuses unknown types
    read.seek(header.data_start + old.offset)
    data = read.read(old.nbytes)
    if new.type == old.type:
        return data
    rows = old.elements // old.shape[0]
    blocks = np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)
    values = dequantize(blocks, GGMLQuantizationType(old.type))
    packed: bytes = quantize(values, GGMLQuantizationType.Q8_0).tobytes()
    return packed
