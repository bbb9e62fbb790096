"""``headrace models add`` of vLLM, SGLang, and servers that already run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_openai import OpenAi
from msgspec.structs import replace

from headrace.cli.main import main
from headrace.engines.base import ModelSettings
from headrace.profiles import starts
from headrace.profiles.files import save, shipped

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``models`` with these words; its status, and what it said on both outputs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("vllm", "sglang"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "data"))

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["models", *words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def added(command: Command, *words: str) -> dict[str, Any]:
    status, out, err = command("add", *words, "--json")
    assert status == 0, err
    settings: dict[str, Any] = json.loads(out)
    return settings


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_weights_for_a_program(command: Command, engine: str) -> None:
    flags = ("--engine-arg", "dtype=bfloat16", "--engine-arg", "gpu-memory-utilization=0.85")
    more = ("--context", "8192", "--slots", "32", *flags, "--engine-arg", "--enforce-eager")
    model = added(command, "big", f"--{engine}", "Qwen/Qwen3-0.6B", *more)
    assert (model["engine"], model["weights"], model["gpus"]) == (engine, "Qwen/Qwen3-0.6B", 1)
    assert model["engine_args"] == {"dtype": "bfloat16", "gpu-memory-utilization": 0.85, "enforce-eager": True}
    assert "Qwen/Qwen3-0.6B" in command("list")[1]


def test_a_program_on_processor_cores_or_many_gpus(command: Command) -> None:
    assert added(command, "a", "--vllm", "org/m", "--gpus", "0", "--threads", "1")["gpus"] == 0
    assert added(command, "b", "--vllm", "org/m", "--gpus", "8")["gpus"] == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--vllm", "org/m", "--url", "http://127.0.0.1:1"), "give one of"),
        (("--engine", "mine"), "belong together"),
        (("--engine", "mine", "--weights", "x"), "no engine 'mine'; there are: llamacpp, openai"),
        (("--simulated", "{}", "--engine-arg", "a=b"), "--engine-arg is for --vllm, --sglang, --engine and --url"),
        (("--url", "http://127.0.0.1:1", "--engine-arg", "a=b"), "takes one engine argument, server=llama-server"),
        (("--vllm", "org/m", "--engine-arg", "=5"), "takes NAME=VALUE"),
        (("--vllm", "org/m", "--engine-arg", "max-model-len=5"), "set the model's --context"),
        (("--vllm", "./nothing"), "there is no nothing"),
        (("--vllm", "org/m", "--program", "/nowhere/vllm"), "/nowhere/vllm is not a program"),
        (("--vllm", "org/m", "--gpus", "-1"), "gpus is -1; expected 0 to 64"),
        (
            ("--simulated", "{}", "--gpus", "1"),
            "GPUs and a program are settings of engines such as vLLM and SGLang, not of simulated",
        ),
        (("--url", "http://127.0.0.1:1", "--url", "http://127.0.0.1:1/v1"), "a URL is given twice"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(command: Command, words: tuple[str, ...], says: str) -> None:
    status, _, err = command("add", "m", *words)
    assert status != 0
    assert says in " ".join(err.split())


def test_a_server_that_runs_is_asked_what_it_calls_its_model(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "s3cret")
    with OpenAi(models=("org/big",), key="s3cret") as server:
        known = ("--url", f"{server.url}/v1", "--api-key-env", "UPSTREAM_KEY")
        assert added(command, "a", *known)["upstream_model"] == "org/big"
        assert added(command, "b", *known, "--upstream-model", "other")["upstream_model"] == "other"
        assert "which calls it org/big" in command("add", "c", *known)[1]
        monkeypatch.setenv("UPSTREAM_KEY", "wrong")
        assert added(command, "d", *known)["upstream_model"] is None
    with OpenAi(models=("org/a", "org/b")) as server:
        assert added(command, "e", "--url", server.url)["upstream_model"] is None


def test_a_server_that_tells_nothing_and_a_key_that_is_not_set_are_warned_of(command: Command) -> None:
    status, out, err = command("add", "a", "--url", "http://127.0.0.1:1", "--api-key-env", "NOT_SET_ANYWHERE")
    said = " ".join(err.split())
    assert status == 0 and "a/1 is registered" in out
    assert "the environment variable NOT_SET_ANYWHERE is not set here" in said
    assert "http://127.0.0.1:1 does not tell its models now" in said


def test_a_server_that_answers_is_not_warned_of_and_what_is_known_of_it_is_shown(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "s3cret")
    with OpenAi(models=("org/big",), key="s3cret") as server:
        assert command("add", "a", "--url", server.url, "--api-key-env", "UPSTREAM_KEY")[2] == ""
    shown = command("show", "a")[1]
    assert "the server calls it org/big" in shown and "environment variable UPSTREAM_KEY" in shown
    assert "s3cret" not in shown


def test_several_servers_are_replicas_of_one_model(command: Command) -> None:
    model = added(command, "a", "--url", "http://127.0.0.1:1/v1", "--url", "http://127.0.0.1:2")
    assert (model["url"], model["more_urls"]) == ("http://127.0.0.1:1", ["http://127.0.0.1:2"])
    assert "http://127.0.0.1:1 http://127.0.0.1:2" in " ".join(command("list")[1].split())


def test_a_llama_server_is_known_by_what_it_says(command: Command) -> None:
    with OpenAi(models=("m",), owned_by="llamacpp") as server:
        assert added(command, "a", "--url", server.url)["engine_args"] == {"server": "llama-server"}
    with OpenAi(models=("m",), owned_by="vllm") as server:
        assert added(command, "b", "--url", server.url)["engine_args"] == {}
        forced = added(command, "c", "--url", server.url, "--engine-arg", "server=llama-server")
        assert forced["engine_args"] == {"server": "llama-server"}


def test_a_model_that_was_measured_with_another_engine_was_never_measured(command: Command, tmp_path: Path) -> None:
    added(command, "m", "--simulated", '{"null": true}')
    provisional = shipped("smollm2-135m-instruct")
    assert provisional is not None
    profile = replace(provisional, model="m", engine="simulated", simulated=True, chunk=1234, status="quick")
    save(tmp_path / "data" / "profiles" / "m.json", profile)
    starts.note(tmp_path / "data" / "profiles", ModelSettings(name="m", engine="simulated"), (2.5,), 1_000)
    assert "1,234 (quick, simulated)" in command("list")[1]
    assert "last started in 2.50 s" in command("show", "m")[1]
    added(command, "m", "--vllm", "org/m", "--replace")
    listed = command("list")[1]
    assert "1,234" not in listed and "never measured" in listed
    assert "the profile of m: measured with the engine simulated, not with vllm; `headrace profile m`" in listed
    shown = command("show", "m")[1]
    assert "never measured here with the engine vllm, only with simulated: headrace profile m" in shown
    assert "1,234" not in shown and "started" not in shown
    told = json.loads(command("show", "m", "--json")[1])
    assert (told["profile"], told["starts"]) == (None, None)


@pytest.mark.parametrize(("context", "warned"), [("2303", True), ("2304", False)])
def test_a_context_that_holds_no_reference_request_is_warned_of(command: Command, context: str, warned: bool) -> None:
    status, _, err = command("add", "m", "--simulated", '{"null": true}', "--context", context)
    assert status == 0
    told = " ".join(err.split())
    assert ("cannot be measured, nor sold; give --context 2304 or more" in told) is warned


def test_the_warning_leaves_json_alone(command: Command) -> None:
    assert added(command, "m", "--simulated", '{"null": true}', "--context", "512")["context"] == 512
