"""Small GGUF files for tests, written by the reference writer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

ROWS, COLUMNS = 8, 64


def write_model(path: Path, *, context: int = 512, quantised: bool = True, architecture: str = "llama") -> np.ndarray:
    """A file with a tokenizer, one matrix and one vector; returns the matrix as the file holds it, in float32."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(context)
    writer.add_block_count(2)
    writer.add_embedding_length(COLUMNS)
    writer.add_head_count(2)
    writer.add_file_type(3)
    writer.add_token_list(["<s>", "water", "früh", "🎉"])
    writer.add_token_types([3, 1, 1, 1])
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    matrix = np.random.default_rng(7).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    if quantised:
        packed = gguf.quants.quantize(matrix, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor("blk.0.w", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        matrix = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
    else:
        writer.add_tensor("blk.0.w", matrix)
    writer.add_tensor("blk.0.norm", np.arange(COLUMNS, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return matrix
