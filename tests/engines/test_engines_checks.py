"""What engines refuse before anything is started, and what they tell of themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest

from headrace.engines import llamacpp
from headrace.engines.base import EngineError, EngineTraits, ModelSettings
from headrace.engines.catalogue import NAMES, engine_for
from headrace.engines.llamacpp import LlamaCppEngine, memory_needed
from headrace.engines.openai import OpenAIEngine
from headrace.models.gguf_file import read_header


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_tensor("w", np.zeros(100, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelSettings(name="m", engine="llamacpp", path=str(path), context=512)


def _change(model: ModelSettings, **changes: Any) -> ModelSettings:
    return msgspec.structs.replace(model, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_is_found_by_its_name(name: str) -> None:
    assert engine_for(name).name == name


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineError, match="no engine 'vlm'; there are: llamacpp, openai, sglang, simulated, vllm"):
        engine_for("vlm")


def test_llamacpp_must_be_streamed_and_its_connection_not_reused(model: ModelSettings) -> None:
    assert LlamaCppEngine().traits(model) == EngineTraits(stream_upstream=True, reuse_after_stream=False)


def test_llamacpp_accepts_what_fits(model: ModelSettings) -> None:
    LlamaCppEngine().check(model)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"path": None}, "needs the path of a GGUF file"),
        ({"path": "/none.gguf"}, "there is no file /none.gguf"),
        ({"context": 513}, "context is 513 tokens, but m.gguf was trained with 512"),
        ({"threads": 4096}, "threads is 4096, but this machine has"),
    ],
)
def test_llamacpp_refuses_what_cannot_run(model: ModelSettings, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineError, match=says):
        LlamaCppEngine().check(_change(model, **changes))


def test_llamacpp_refuses_more_than_the_memory_holds(model: ModelSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "physical_memory", lambda: 1000)
    with pytest.raises(EngineError, match="smaller context or fewer slots"):
        LlamaCppEngine().check(model)


def test_memory_is_weights_and_keys_and_values_of_all_slots(model: ModelSettings) -> None:
    assert model.path is not None
    # 100 floats; 2 layers of 2 key-value heads of 16, keys and values, 2 bytes each, 512 tokens, 3 slots
    assert memory_needed(read_header(Path(model.path)), _change(model, slots=3)) == 400 + 2 * 2 * 16 * 2 * 2 * 512 * 3


def test_llamacpp_says_how_to_install_it(model: ModelSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"headrace\[embedded\]"):
        LlamaCppEngine().check(model)


def test_the_command_of_a_replica_carries_no_model_and_no_secret(model: ModelSettings) -> None:
    assert not [part for part in LlamaCppEngine().argv(model) if "m.gguf" in part]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "needs a URL"),
        ("127.0.0.1:8000", "is not a base URL"),
        ("ftp://127.0.0.1", "is not a base URL"),
        ("http://", "is not a base URL"),
        ("http://127.0.0.1:99999", "is not a URL"),
        ("http://127.0.0.1:8000/v1", "without /v1: http://127.0.0.1:8000$"),
        ("http://user:pass@127.0.0.1", "holds a user name or password"),
    ],
)
def test_openai_refuses_what_is_no_base_url(url: str | None, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        OpenAIEngine().check(ModelSettings(name="m", engine="openai", url=url))


def test_openai_takes_its_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelSettings(name="m", engine="openai", url="http://127.0.0.1:8000", api_key_env="UPSTREAM_KEY")
    monkeypatch.delenv("UPSTREAM_KEY", raising=False)
    with pytest.raises(EngineError, match="UPSTREAM_KEY is not set"):
        OpenAIEngine().key(model)
    OpenAIEngine().check(model)  # who registers the model need not have the key; who serves it must
    monkeypatch.setenv("UPSTREAM_KEY", "s3cret")
    assert OpenAIEngine().key(model) == "s3cret"


def test_a_key_pasted_for_the_variables_name_is_refused_and_not_repeated() -> None:
    model = ModelSettings(name="m", engine="openai", url="http://127.0.0.1:8000", api_key_env="sk-123/abc")
    with pytest.raises(EngineError, match="not the name of an environment variable") as error:
        OpenAIEngine().check(model)
    assert "sk-123" not in str(error.value)


def test_openai_passes_the_upstream_models_name_on_and_starts_nothing() -> None:
    model = ModelSettings(name="m", engine="openai", url="http://127.0.0.1:8000", upstream_model="org/m")
    assert OpenAIEngine().traits(model) == EngineTraits(upstream_model="org/m")
    with pytest.raises(EngineError, match="nothing to start"):
        OpenAIEngine().argv(model)


def test_a_llama_server_that_already_runs_is_helped_as_the_embedded_one_is() -> None:
    model = ModelSettings(
        name="m", engine="openai", url="http://127.0.0.1:8000", engine_args={"server": "llama-server"}
    )
    OpenAIEngine().check(model)
    assert OpenAIEngine().traits(model) == EngineTraits(stream_upstream=True, reuse_after_stream=False)
    with pytest.raises(EngineError, match="other settings are those of the server itself"):
        OpenAIEngine().check(_change(model, engine_args={"dtype": "float16"}))
