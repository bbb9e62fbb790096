"""How long starts take is kept, the newest of them, beside the profile that is frozen."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from headrace.engines.base import ModelSettings
from headrace.profiles.files import shipped
from headrace.profiles.starts import KEPT, load, note, start_s

M = ModelSettings(name="m", engine="simulated")


def test_the_newest_starts_are_kept_and_their_median_is_told(tmp_path: Path) -> None:
    assert load(tmp_path, M) is None
    note(tmp_path, M, (2.0, 4.0), 1_000)
    starts = note(tmp_path, M, (30.0,), 2_000)
    assert starts == load(tmp_path, M)
    assert (starts.seconds, starts.median_s, starts.newest_ms) == ((2.0, 4.0, 30.0), 4.0, 2_000)
    note(tmp_path, M, tuple(float(number) for number in range(100)), 3_000)
    assert load(tmp_path, M).seconds == tuple(float(number) for number in range(100 - KEPT, 100))  # type: ignore[union-attr]


def test_each_version_of_a_model_has_its_own(tmp_path: Path) -> None:
    note(tmp_path, M, (2.0,), 1_000)
    second = replace(M, version="2")
    assert load(tmp_path, second) is None
    assert note(tmp_path, second, (9.0,), 2_000).seconds == (9.0,)
    assert note(tmp_path, M, (3.0,), 3_000).seconds == (2.0, 3.0)


@pytest.mark.parametrize("content", [b"", b"{", b'{"model": "m"}', b"\xff"])
def test_a_file_that_is_none_says_nothing_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "starts").mkdir()
    (tmp_path / "starts" / "m.json").write_bytes(content)
    assert load(tmp_path, M) is None
    assert note(tmp_path, M, (2.0,), 1_000).seconds == (2.0,)


def test_what_was_seen_comes_before_what_the_profile_measured(tmp_path: Path) -> None:
    profile = shipped("smollm2-135m-instruct")
    assert profile is not None
    measured = msgspec.structs.replace(profile, start_s=7.0)
    assert start_s(None, None) is None
    assert start_s(None, measured) == 7.0
    assert start_s(note(tmp_path, M, (2.0,), 1_000), measured) == 2.0


@pytest.mark.parametrize("other", [{"engine": "vllm", "weights": "org/m"}, {"sha256": "bb"}])
def test_starts_of_another_engine_or_of_other_weights_are_not_told(tmp_path: Path, other: dict[str, str]) -> None:
    note(tmp_path, M, (2.0,), 1_000)
    assert load(tmp_path, replace(M, **other)) is None
