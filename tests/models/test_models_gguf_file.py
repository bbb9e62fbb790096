"""Reading what a GGUF file says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_samples import write_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.models.gguf_file import GGUFError, read_header


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_model(path)
    return path


def test_a_header_tells_architecture_context_and_tensors(model: Path) -> None:
    header = read_header(model)
    assert (header.architecture, header.context_length) == ("llama", 512)
    assert [(t.name, t.shape) for t in header.tensors] == [("blk.0.w", (64, 8)), ("blk.0.norm", (64,))]
    assert header.metadata["tokenizer.chat_template"].startswith("{% for m")


def test_a_truncated_file_is_refused_with_both_sizes(model: Path) -> None:
    data = model.read_bytes()
    model.write_bytes(data[:-200])
    with pytest.raises(GGUFError, match=rf"truncated.*{len(data) - 200:,}"):
        read_header(model)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not a model at all", "is not a GGUF file"),
        (b"GGUF\x09\x00\x00\x00" + bytes(32), "version 9"),
        (b"GGUF\x03\x00\x00\x00" + bytes(16), "names no general.architecture"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "broken GGUF header"),
    ],
)
def test_what_is_not_a_model_is_refused_in_words(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(GGUFError, match=says):
        read_header(path)


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="No such file"):
        read_header(tmp_path / "none.gguf")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(min_value=0, max_value=700), value=st.integers(min_value=0, max_value=255), cut=st.booleans())
def test_a_damaged_header_is_read_or_refused_but_never_anything_else(
    model: Path, at: int, value: int, cut: bool
) -> None:
    whole = bytearray(model.read_bytes())
    whole[at] = value
    damaged = model.with_name("damaged.gguf")
    damaged.write_bytes(whole[:at] if cut else whole)
    try:
        assert read_header(damaged).context_length > 0
    except GGUFError as error:
        assert str(damaged) in str(error)
