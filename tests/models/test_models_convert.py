"""Re-quantising to Q8_0."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_samples import write_model

from headrace.models.convert import FILE_TYPE_MOSTLY_Q8_0, to_q8_0
from headrace.models.gguf_file import GGUFError


def test_matrices_become_q8_0_and_keep_their_values(tmp_path: Path) -> None:
    before = write_model(tmp_path / "q4.gguf")
    to_q8_0(tmp_path / "q4.gguf", tmp_path / "q8.gguf")
    matrix, vector = gguf.GGUFReader(tmp_path / "q8.gguf").tensors
    assert matrix.tensor_type.name == "Q8_0"
    after = gguf.quants.dequantize(matrix.data, matrix.tensor_type)
    # Q8_0 rounds to 1/127 of a block's largest value, so at most half of that is lost.
    assert np.abs(after - before).max() <= np.abs(before).max() / 127 / 2 * 1.01
    assert vector.tensor_type.name == "F32"
    assert list(vector.data) == list(range(64))


def test_metadata_is_copied_but_for_the_file_type(tmp_path: Path) -> None:
    write_model(tmp_path / "q4.gguf")
    to_q8_0(tmp_path / "q4.gguf", tmp_path / "q8.gguf")
    before, after = (
        {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / file).fields.items()}
        for file in ("q4.gguf", "q8.gguf")
    )
    assert after.pop("general.file_type") == FILE_TYPE_MOSTLY_Q8_0
    assert before.pop("general.file_type") == 3
    assert after == before


def test_a_float_matrix_is_copied(tmp_path: Path) -> None:
    before = write_model(tmp_path / "f32.gguf", quantised=False)
    to_q8_0(tmp_path / "f32.gguf", tmp_path / "out.gguf")
    matrix = gguf.GGUFReader(tmp_path / "out.gguf").tensors[0]
    assert matrix.tensor_type.name == "F32"
    assert np.array_equal(matrix.data, before)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    write_model(tmp_path / "q4.gguf")
    for name in ("a", "b"):
        to_q8_0(tmp_path / "q4.gguf", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    write_model(tmp_path / "q4.gguf")
    seen: list[tuple[int, int]] = []
    to_q8_0(tmp_path / "q4.gguf", tmp_path / "q8.gguf", lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 64 * 8 // 32 * 34 + 64 * 4
    assert seen == sorted(seen)


def test_a_broken_source_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "q4.gguf").write_bytes(b"junk")
    with pytest.raises(GGUFError):
        to_q8_0(tmp_path / "q4.gguf", tmp_path / "q8.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["q4.gguf"]


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    write_model(tmp_path / "q4.gguf")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_q8_0(tmp_path / "q4.gguf", tmp_path / "q8.gguf", interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["q4.gguf"]
