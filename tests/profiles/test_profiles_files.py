"""Profile files: whole or not at all, found in order, and known as foreign or stale."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from headrace.engines.base import ModelSettings
from headrace.profiles.files import ProfileError, find, load, of_another_engine, path_of, save, shipped
from headrace.profiles.hardware import this_machine
from headrace.profiles.profile import Hardware, Profile
from headrace.profiles.validity import doubts, mismatches

LLAMA = ModelSettings(name="smollm2-135m-instruct", engine="llamacpp", path="/m.gguf", sha256="aa")
HERE = Hardware(cpu="A 1", cores=2, memory_bytes=8 << 30, machine="x86_64")


@pytest.fixture
def profile() -> Profile:
    provisional = shipped("smollm2-135m-instruct")
    assert provisional is not None
    return provisional


def test_the_shipped_profile_says_that_it_is_provisional_and_is_normalised(profile: Profile) -> None:
    assert profile.status == "provisional"
    assert profile.weights.work(2048, 0, 256) == pytest.approx(2304)
    assert "not measured on this machine" in profile.method
    assert mismatches(profile, LLAMA, here=HERE, engine_version="y") == []


def test_a_measured_profile_goes_before_the_shipped_one(profile: Profile, tmp_path: Path) -> None:
    assert find(LLAMA, tmp_path) == profile
    measured = msgspec.structs.replace(profile, id="here", status="measured")
    save(tmp_path / f"{profile.model}.json", measured)
    assert find(LLAMA, tmp_path) == measured
    assert find(replace(LLAMA, name="unknown"), tmp_path) is None


@pytest.mark.parametrize("broken", [b"", b"{", b"{}", b'{"id": 1}', b"\xff\xfe"])
def test_a_corrupt_file_is_named_and_not_passed_over(profile: Profile, tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / f"{profile.model}.json"
    path.write_bytes(broken)
    with pytest.raises(ProfileError, match=r"smollm2-135m-instruct\.json is not a profile .* measure again"):
        find(LLAMA, tmp_path)


def test_a_profile_of_another_model_is_refused(profile: Profile, tmp_path: Path) -> None:
    save(tmp_path / "other.json", profile)
    with pytest.raises(ProfileError, match="a profile of smollm2-135m-instruct, version 1, not of other, version 1"):
        find(replace(LLAMA, name="other"), tmp_path)


def test_a_profile_is_of_one_version_of_a_model(profile: Profile, tmp_path: Path) -> None:
    second = replace(LLAMA, version="2")
    assert path_of(LLAMA, tmp_path) != path_of(second, tmp_path)
    measured = replace(profile, id="here", status="measured")
    save(path_of(LLAMA, tmp_path), measured)
    assert find(LLAMA, tmp_path) == measured
    assert find(second, tmp_path) is None, "neither the first version's nor the shipped one"
    save(path_of(second, tmp_path), measured)
    with pytest.raises(ProfileError, match="version 1, not of smollm2-135m-instruct, version 2; remove it"):
        find(second, tmp_path)
    save(path_of(second, tmp_path), replace(measured, model_version="2"))
    assert find(second, tmp_path) == replace(measured, model_version="2")
    assert find(LLAMA, tmp_path) == measured


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"gone\.json: No such file"):
        load(tmp_path / "gone.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.json"
    save(path, profile)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProfileError, match="No space left on device"):
        save(path, msgspec.structs.replace(profile, chunk=1))
    assert load(path) == profile
    assert os.listdir(tmp_path) == ["m.json"]


def test_foreign_and_stale_profiles_say_why(profile: Profile) -> None:
    measured = msgspec.structs.replace(profile, hardware=HERE, model_sha256="aa", engine_version="1.0")
    assert mismatches(measured, LLAMA, here=HERE, engine_version="1.0") == []
    elsewhere = Hardware(cpu="B 2", cores=4, memory_bytes=16 << 30, machine="aarch64")
    assert mismatches(measured, replace(LLAMA, sha256="bb"), here=elsewhere, engine_version="2.0") == [
        "measured on other hardware: architecture x86_64, here aarch64",
        "measured on other hardware: processor A 1, here B 2",
        "measured on other hardware: 2 cores, here 4",
        "measured on other hardware: 8 GiB of memory, here 16 GiB",
        "measured with other weights of the model",
        "measured with version 1.0 of the engine, which is now 2.0",
    ]


def test_the_hardware_is_read_from_the_machine(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some  CPU @ 2.0GHz\nmodel name\t: Other\n")
    found = this_machine(cpuinfo)
    assert found.cpu == "Some CPU @ 2.0GHz"
    assert found.cores >= 1 and found.memory_bytes > 0
    assert this_machine(tmp_path / "missing").cpu


def test_a_profile_of_an_older_version_is_read_under_its_id_with_what_it_lacks_left_open(
    profile: Profile, tmp_path: Path
) -> None:
    newer = {
        "iteration", "iteration_error", "held_out_shapes", "cached_tokens", "operating_points", "starts_s", "intervals",
        "cut_short", "problems", "pace",
    }  # fmt: skip
    document = msgspec.json.decode(msgspec.json.encode(profile))
    path = tmp_path / "m.json"
    path.write_bytes(msgspec.json.encode({name: value for name, value in document.items() if name not in newer}))
    found = load(path)
    assert found == profile
    assert found.iteration is None and found.intervals is None and found.problems == ()


def test_a_measurement_that_is_not_valid_is_doubted(profile: Profile) -> None:
    invalid = msgspec.structs.replace(profile, problems=("others used the cores",))
    here = {"here": HERE, "engine_version": None}
    assert doubts(profile, LLAMA, **here) == []
    assert doubts(invalid, LLAMA, **here) == ["its measurement is not valid: others used the cores"]
    assert mismatches(invalid, LLAMA, **here) == []


def test_other_settings_are_named_with_what_they_were(profile: Profile) -> None:
    model = replace(LLAMA, threads=2, engine_args={"n_batch": 512})
    measured = replace(profile, pace=model.pace)
    assert mismatches(measured, model, here=HERE, engine_version=None) == []
    other = replace(model, context=8192, slots=4, engine_args={"flash_attn": True})
    assert mismatches(measured, other, here=HERE, engine_version=None) == [
        "measured with context 4096, which is now 8192",
        "measured with flash_attn as the engine has it, which is now True",
        "measured with n_batch 512, which is now as the engine has it",
        "measured with slots 1, which is now 4",
    ]


def test_settings_that_change_no_speed_are_no_reason_to_doubt(profile: Profile) -> None:
    measured = replace(profile, pace=LLAMA.pace)
    other = replace(LLAMA, path="/moved.gguf", default_max_tokens=7, units_per_chunk=50)
    assert mismatches(measured, other, here=HERE, engine_version=None) == []


def test_without_a_digest_the_version_of_the_model_tells_other_weights(profile: Profile) -> None:
    hub = ModelSettings(name="m", version="2", engine="vllm", weights="org/m")
    measured = replace(profile, engine="vllm", model_sha256=None)
    (why,) = mismatches(measured, hub, here=HERE, engine_version=None)
    assert why == "measured with version 1 of the model, which is now 2"


def test_a_profile_of_another_engine_is_none(profile: Profile, tmp_path: Path) -> None:
    simulated = replace(profile, model="m", engine="simulated", simulated=True)
    save(tmp_path / "m.json", simulated)
    as_simulated = ModelSettings(name="m", engine="simulated")
    by_vllm = ModelSettings(name="m", engine="vllm", weights="org/m")
    assert find(as_simulated, tmp_path) == simulated
    assert of_another_engine(as_simulated, tmp_path) is None
    assert find(by_vllm, tmp_path) is None
    assert of_another_engine(by_vllm, tmp_path) == "simulated"


def test_the_shipped_profile_stands_in_where_the_measured_one_is_of_another_engine(
    profile: Profile, tmp_path: Path
) -> None:
    save(tmp_path / f"{profile.model}.json", replace(profile, engine="simulated", simulated=True))
    assert find(LLAMA, tmp_path) == profile
