"""The models of one server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from gguf_samples import write_model

from headrace.engines.base import ModelSettings
from headrace.models.catalogue import CATALOGUE
from headrace.models.registry import Registry, RegistryError, VersionError


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models", cache=tmp_path / "cache")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.gguf"
    write_model(path, context=512)
    return path


def test_a_file_is_registered_with_its_digest_and_settings(registry: Registry, weights: Path) -> None:
    registry.add("tiny", gguf=weights, context=256, slots=2)
    model = registry.get("tiny")
    assert (model.engine, model.path, model.context, model.slots, model.threads) == (
        "llamacpp",
        str(weights),
        256,
        2,
        1,
    )
    assert model.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert model.default_max_tokens == 128


def test_a_server_is_registered_by_its_url(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", "s3cret")
    registry.add("remote", url="http://127.0.0.1:8000/", api_key_env="SERVER_KEY", upstream_model="m")
    model = registry.get("remote")
    assert (model.engine, model.url, model.upstream_model) == ("openai", "http://127.0.0.1:8000", "m")
    assert "s3cret" not in (registry.folder / "remote.json").read_text()


@pytest.mark.parametrize("url", ["http://h:8000/v1", "http://h:8000/v1/", "http://h:8000//v1"])
def test_a_url_may_be_given_as_clients_know_it(registry: Registry, url: str) -> None:
    assert registry.add("remote", url=url).url == "http://h:8000"


def test_list_is_by_name_and_a_removed_model_is_gone(registry: Registry, weights: Path) -> None:
    for name in ("b", "a"):
        registry.add(name, gguf=weights, context=64)
    assert [m.name for m in registry.list()] == ["a", "b"]
    registry.remove("a")
    assert [m.name for m in registry.list()] == ["b"]
    with pytest.raises(RegistryError, match="no model 'a' is registered"):
        registry.remove("a")


def test_a_pulled_model_of_the_catalogue_needs_no_registration(registry: Registry, tmp_path: Path) -> None:
    entry = CATALOGUE["smollm2-135m-instruct"]
    path = entry.path(entry.converted, tmp_path / "cache")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(entry.converted.nbytes)
    with pytest.raises(RegistryError, match=f"one of the catalogue, not registered here; its file is {path}"):
        registry.remove(entry.name)
    model = registry.get(entry.name)
    assert (model.path, model.sha256, model.context) == (str(path), entry.converted.sha256, 4096)
    assert [m.name for m in registry.list()] == [entry.name]


def test_a_model_of_the_catalogue_that_was_not_pulled_cannot_be_removed(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="one of the catalogue and was not fetched yet"):
        registry.remove("smollm2-135m-instruct")


def test_a_model_that_was_not_pulled_says_how_to_pull_it(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="run `headrace models pull smollm2-135m-instruct`"):
        registry.get("smollm2-135m-instruct")


def test_an_unknown_model_is_refused_with_the_known_ones(registry: Registry, weights: Path) -> None:
    registry.add("tiny", gguf=weights, context=64)
    with pytest.raises(RegistryError, match="no model 'other'; registered: tiny"):
        registry.get("other")


@pytest.mark.parametrize("name", ["", "a" * 64, "../up", ".hidden", "with space", "sl/ash", "ümlaut", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(registry: Registry, weights: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="is not a model name"):
        registry.add(name, gguf=weights)


def test_a_second_model_of_the_name_is_refused_unless_it_replaces(registry: Registry, weights: Path) -> None:
    registry.add("tiny", gguf=weights, context=64)
    with pytest.raises(RegistryError, match=r"registered already; .*--replace"):
        registry.add("tiny", gguf=weights, context=128)
    registry.add("tiny", gguf=weights, context=128, replace=True)
    assert registry.get("tiny").context == 128


def test_a_context_beyond_the_trained_one_is_refused_naming_it(registry: Registry, weights: Path) -> None:
    with pytest.raises(RegistryError, match=r"context is 4,096.*trained with 512"):
        registry.add("tiny", gguf=weights)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"context": 0}, "context is 0; expected 1 to"),
        ({"slots": 0}, "slots is 0"),
        ({"slots": 10_000}, "slots is 10000; expected 1 to 256"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 1000}, "threads is 1000, but this machine has"),
        ({"default_max_tokens": 64}, "default max_tokens is 64; expected 1 to 63"),
        ({"units_per_chunk": 0}, "units_per_chunk is 0; expected 1 to 1,000,000"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    registry: Registry, weights: Path, change: dict[str, int], says: str
) -> None:
    with pytest.raises(RegistryError, match=says):
        registry.add("tiny", gguf=weights, **{"context": 64, **change})
    assert registry.list() == ()


def test_a_corrupt_weights_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "junk.gguf").write_bytes(b"GARBAGE!")
    with pytest.raises(RegistryError, match="is not a GGUF file"):
        registry.add("junk", gguf=tmp_path / "junk.gguf")


def test_a_missing_weights_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"there is no file .*/none\.gguf$"):
        registry.add("none", gguf=tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not a model's settings"),
        (b'{"name": "tiny"}', "is not a model's settings.*engine"),
        (msgspec.json.encode(ModelSettings(name="other", engine="simulated")), "describes model 'other'"),
    ],
)
def test_a_damaged_settings_file_is_named(registry: Registry, content: bytes, says: str) -> None:
    registry.folder.mkdir()
    (registry.folder / "tiny.json").write_bytes(content)
    with pytest.raises(RegistryError, match=says):
        registry.get("tiny")


def test_exactly_one_source_must_be_given(registry: Registry, weights: Path) -> None:
    with pytest.raises(RegistryError, match="exactly one"):
        registry.add("tiny")
    with pytest.raises(RegistryError, match="exactly one"):
        registry.add("tiny", gguf=weights, url="http://127.0.0.1:1")


def test_versions_of_a_name_stand_beside_each_other_and_the_newest_is_meant(registry: Registry, weights: Path) -> None:
    for version in ("1", "2", "10"):
        registry.add("tiny", gguf=weights, context=64 + int(version), version=version)
    registry.add("tinyx", gguf=weights, context=64)
    assert registry.versions("tiny") == ("1", "2", "10"), "numbers, not words"
    assert [(model.name, model.version) for model in registry.list()] == [
        ("tiny", "1"), ("tiny", "2"), ("tiny", "10"), ("tinyx", "1"),
    ]  # fmt: skip
    assert [registry.get("tiny", version).context for version in ("1", "2", "10", None)] == [65, 66, 74, 74]
    assert [registry.spec(model) for model in registry.list()] == ["tiny/1", "tiny/2", "tiny", "tinyx"]


def test_a_version_that_is_not_there_is_refused_with_those_that_are(registry: Registry, weights: Path) -> None:
    registry.add("tiny", gguf=weights, context=64)
    with pytest.raises(VersionError, match=r"model 'tiny' has version 1, not 2$"):
        registry.get("tiny", "2")
    registry.add("tiny", gguf=weights, context=64, version="2")
    registry.add("tiny", gguf=weights, context=64, version="3")
    for call in (registry.get, registry.remove):
        with pytest.raises(VersionError, match=r"model 'tiny' has versions 1, 2 and 3, not 7$"):
            call("tiny", "7")


def test_a_version_that_is_there_is_replaced_only_where_that_is_said(registry: Registry, weights: Path) -> None:
    registry.add("tiny", gguf=weights, context=64)
    registry.add("tiny", gguf=weights, context=65, version="2")
    with pytest.raises(RegistryError, match=r"version 2 of model 'tiny' is registered already; .*--model-version 3"):
        registry.add("tiny", gguf=weights, context=66, version="2")
    registry.add("tiny", gguf=weights, context=66, version="2", replace=True)
    assert [model.context for model in registry.list()] == [64, 66]
    with pytest.raises(VersionError, match="has versions 1 and 2: say which is meant"):
        registry.add("tiny", gguf=weights, context=67, replace=True)


def test_one_of_several_versions_is_removed_and_which_must_be_said(registry: Registry, weights: Path) -> None:
    for version in ("1", "2"):
        registry.add("tiny", gguf=weights, context=64, version=version)
    with pytest.raises(VersionError, match="has versions 1 and 2: say which is meant, such as --model-version 2"):
        registry.remove("tiny")
    assert registry.remove("tiny", "1") == "1"
    assert registry.versions("tiny") == ("2",)
    assert registry.remove("tiny") == "2"
    assert registry.versions("tiny") == ()


def test_a_pulled_model_of_the_catalogue_is_the_first_version_of_its_name(
    registry: Registry, weights: Path, tmp_path: Path
) -> None:
    entry = CATALOGUE["smollm2-135m-instruct"]
    path = entry.path(entry.converted, tmp_path / "cache")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(entry.converted.nbytes)
    registry.add(entry.name, gguf=weights, context=64, version="2")
    assert registry.versions(entry.name) == ("1", "2")
    assert registry.get(entry.name, "1").path == str(path)
    assert registry.get(entry.name).path == str(weights)
    assert [model.version for model in registry.list()] == ["1", "2"]


@pytest.mark.parametrize("version", ["", "0", "01", "-1", "two", "1.0", "../2", "2\n", "1" * 10])
def test_a_version_that_is_no_whole_number_is_refused(registry: Registry, weights: Path, version: str) -> None:
    with pytest.raises(RegistryError, match="expected a whole number from 1"):
        registry.add("tiny", gguf=weights, context=64, version=version)
    assert registry.list() == ()


def test_a_file_under_the_name_of_another_version_is_named(registry: Registry) -> None:
    registry.folder.mkdir()
    content = msgspec.json.encode(ModelSettings(name="tiny", version="3", engine="simulated"))
    (registry.folder / "tiny@2.json").write_bytes(content)
    with pytest.raises(RegistryError, match=r"tiny@2\.json describes model 'tiny', version 3; rename it"):
        registry.get("tiny")
