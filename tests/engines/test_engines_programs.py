"""vLLM and SGLang: their command lines as data, and the life of such a program, by a stand-in that takes the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

import pytest
from engines_stand_in import VERSION, stand_in

from headrace.engines.base import EngineError, EngineTraits, ModelSettings, ReplicaSpec
from headrace.engines.catalogue import engine_for
from headrace.engines.program import ProgramEngine
from headrace.fleet.spawn import OwnReplica, start_replica

PROGRAMS = ("vllm", "sglang")
WEIGHTS = "Qwen/Qwen3-0.6B"


def engine_of(name: str) -> ProgramEngine:
    return cast(ProgramEngine, engine_for(name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the stand-ins, on the search path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        stand_in(programs, name)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return tmp_path


def model_of(engine: str, **changes: Any) -> ModelSettings:
    settings: dict[str, Any] = {"weights": WEIGHTS, "context": 8192, "slots": 16, "gpus": 1} | changes
    return ModelSettings(name="big", engine=engine, **settings)


def launched(model: ModelSettings, folder: Path, **changes: Any) -> tuple[list[str], dict[str, str]]:
    """Command line without the program, and environment."""
    spec = ReplicaSpec(replica="r1", model=model, secret="s3cret", **({"gpus": (0,)} | changes))
    launch = engine_of(model.engine).launch(spec, 4321, folder)
    return list(launch.argv[1:]), dict(launch.environment)


def test_the_command_line_of_vllm(folder: Path) -> None:
    argv, environment = launched(model_of("vllm"), folder)
    assert argv == [
        *("serve", WEIGHTS),
        *("--host", "127.0.0.1", "--port", "4321", "--served-model-name", "big"),
        *("--max-model-len", "8192", "--max-num-seqs", "16"),
        *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log", "--enable-prefix-caching"),
    ]
    assert environment == {"VLLM_API_KEY": "s3cret", "CUDA_VISIBLE_DEVICES": "0"}


def test_the_command_line_of_sglang(folder: Path) -> None:
    argv, environment = launched(model_of("sglang"), folder)
    settings = folder / "settings.yaml"
    assert argv == [
        *("serve", "--model-path", WEIGHTS),
        *("--host", "127.0.0.1", "--port", "4321", "--served-model-name", "big"),
        *("--context-length", "8192", "--max-running-requests", "16"),
        *("--enable-cache-report", "--log-level-http", "warning", "--config", str(settings)),
    ]
    assert environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert json.loads(settings.read_text()) == {"api-key": "s3cret"}
    assert settings.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("engine", "flag"), [("vllm", "--tensor-parallel-size"), ("sglang", "--tp-size")])
def test_a_replica_on_several_gpus_splits_the_model_over_them(folder: Path, engine: str, flag: str) -> None:
    argv, environment = launched(model_of(engine, gpus=2), folder, gpus=(2, 3))
    assert argv[argv.index(flag) + 1] == "2"
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_replica_without_gpus_sees_none_and_keeps_to_its_cores(folder: Path) -> None:
    _, environment = launched(model_of("vllm", gpus=0), folder, gpus=(), cpus=(1, 3))
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["VLLM_CPU_OMP_THREADS_BIND"]) == ("", "1,3")
    argv, environment = launched(model_of("sglang", gpus=0), folder, gpus=())
    assert argv[argv.index("--device") + 1] == "cpu"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("engine", "flag"), [("vllm", "--no-enable-prefix-caching"), ("sglang", "--disable-radix-cache")]
)
def test_a_measurement_can_do_without_a_cache_of_prompts(folder: Path, engine: str, flag: str) -> None:
    assert flag in launched(model_of(engine), folder, cache_prompts=False)[0]


def test_engine_arguments_become_flags(folder: Path) -> None:
    args = {
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.85,
        "enforce-eager": True,
        "async_scheduling": False,
        "middleware": ["a", "b"],
        "speculative-config": {"method": "ngram"},
    }
    argv, _ = launched(model_of("vllm", engine_args=args), folder)
    assert argv[-11:] == [
        *("--dtype", "bfloat16", "--gpu-memory-utilization", "0.85", "--enforce-eager", "--no-async-scheduling"),
        *("--middleware", "a", "b", "--speculative-config", '{"method": "ngram"}'),
    ]
    argv, _ = launched(model_of("sglang", engine_args={"enable-torch-compile": False}), folder)
    assert "--enable-torch-compile" not in argv and "--no-enable-torch-compile" not in argv


@pytest.mark.parametrize(
    ("engine", "args", "says"),
    [
        ("vllm", {"max-model-len": 1}, "'max-model-len': set the model's --context"),
        ("vllm", {"max_num_seqs": 1}, "set the model's --slots"),
        ("vllm", {"no-enable-prefix-caching": True}, "off when measuring"),
        ("vllm", {"api-key": "k"}, "key is made at its start"),
        ("sglang", {"context_length": 1}, "set the model's --context"),
        ("sglang", {"tp": 4}, "set the model's --gpus"),
        ("sglang", {"log-requests": True}, "write prompts to the log"),
        ("vllm", {"a b": 1}, "is not the name of a flag"),
        ("vllm", {"dtype": None}, "'dtype' is null; expected text, a number"),
        ("vllm", {"middleware": []}, "expected text, a number"),
    ],
)
def test_an_engine_argument_that_headrace_sets_or_that_is_none_is_refused(
    folder: Path, engine: str, args: dict[str, Any], says: str
) -> None:
    with pytest.raises(EngineError, match=says):
        engine_of(engine).check(model_of(engine, engine_args=args))


@pytest.mark.parametrize(
    ("weights", "says"),
    [(None, "needs weights"), ("./none", "there is no none"), ("/none", "there is no /none"), ("-x", "not the name")],
)
def test_weights_that_cannot_be_are_refused(folder: Path, weights: str | None, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        engine_of("vllm").check(model_of("vllm", weights=weights))


@pytest.mark.parametrize(("engine", "install"), [("vllm", "pip install vllm"), ("sglang", "pip install sglang")])
def test_a_program_that_is_not_installed_is_said_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, install: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EngineError, match=f"no program '{engine}' here; install it with `{install}`.*--program"):
        engine_of(engine).check(model_of(engine))


def test_the_program_of_another_environment_can_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "bin/vllm"
    monkeypatch.setenv("PATH", "/nowhere")
    engine_of("vllm").check(model_of("vllm", program=str(path)))
    with pytest.raises(EngineError, match="/nowhere/vllm is not a program that can be run"):
        engine_of("vllm").check(model_of("vllm", program="/nowhere/vllm"))


@pytest.mark.parametrize("engine", PROGRAMS)
def test_the_command_of_a_replica_carries_no_secret_and_its_traits_the_name(folder: Path, engine: str) -> None:
    model = model_of(engine)
    assert engine_of(engine).argv(model)[-1] == "headrace.engines.program_replica"
    assert "s3cret" not in " ".join(launched(model, folder)[0])
    assert engine_of(engine).traits(model) == EngineTraits(upstream_model="big")


# The life of a replica, with the stand-in as its program.


async def started(model: ModelSettings, folder: Path, **changes: Any) -> OwnReplica:
    return await start_replica(model, log=folder / "replica.log", timeout_s=30.0, **changes)


def status(url: str, key: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]


async def gone(pid: int) -> None:
    """Wait for the end of a process that is no child of ours."""
    ended = asyncio.Event()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)


@pytest.mark.parametrize("engine", PROGRAMS)
async def test_a_replica_is_ready_when_its_program_answers_and_ends_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    told = folder / "told.json"
    monkeypatch.setenv("STAND_IN_TOLD", str(told))
    replica = await started(model_of(engine), folder, gpus=(5,))
    try:
        given = json.loads(told.read_text())
        assert replica.engine_version == f"{engine} {VERSION}"
        assert replica.load_s is not None and replica.load_s > 0
        assert status(f"{replica.url}/v1/models", replica.secret) == 200
        assert status(f"{replica.url}/v1/models", "another") == 401
        assert replica.secret not in json.dumps(given)
        assert given["environment"]["CUDA_VISIBLE_DEVICES"] == "5"
    finally:
        await replica.stop()
    assert not alive(given["pid"])
    assert "Application startup complete." in (folder / "replica.log").read_text()


async def test_a_model_that_only_embeds_is_warmed_by_an_embedding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_EMBEDS", "1")
    await (await started(model_of("vllm"), folder)).stop()


async def test_a_program_that_dies_before_it_is_ready_is_told_with_its_last_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DIES", "1")
    with pytest.raises(EngineError, match=r"vllm ended with code 3 before it was ready; .*the weights are broken"):
        await started(model_of("vllm"), folder)


@pytest.mark.parametrize("engine", PROGRAMS)
async def test_an_argument_that_the_program_does_not_know_is_told_by_its_own_words(folder: Path, engine: str) -> None:
    with pytest.raises(EngineError, match=f"{engine} ended with code 2 .*unrecognized arguments: --dtpye bfloat16"):
        await started(model_of(engine, engine_args={"dtpye": "bfloat16"}), folder)


async def test_a_program_that_does_not_get_ready_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = folder / "told.json"
    monkeypatch.setenv("STAND_IN_TOLD", str(told))
    monkeypatch.setenv("STAND_IN_HANGS", "1")
    with pytest.raises(EngineError, match="was not ready in 2 s"):
        await start_replica(model_of("vllm"), log=folder / "replica.log", timeout_s=2.0)
    await gone(json.loads(told.read_text())["pid"])


async def test_a_replica_ends_when_its_program_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = folder / "told.json"
    monkeypatch.setenv("STAND_IN_TOLD", str(told))
    replica = await started(model_of("vllm"), folder)
    os.kill(json.loads(told.read_text())["pid"], signal.SIGKILL)
    async with asyncio.timeout(10):
        await replica.exited.wait()
    await replica.stop()
    state = replica._child.state
    assert state.exit_code == 1
    assert state.report is not None and "vllm ended with code -9 after it was ready" in state.report["error"]


async def test_a_program_does_not_outlive_a_replica_that_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = folder / "told.json"
    monkeypatch.setenv("STAND_IN_TOLD", str(told))
    replica = await started(model_of("vllm"), folder)
    os.kill(replica.pid, signal.SIGKILL)
    await gone(json.loads(told.read_text())["pid"])
    await replica.stop()
