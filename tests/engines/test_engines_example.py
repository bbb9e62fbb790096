"""The engine of ``docs/howto/add-an-engine.md``, as a package of somebody else would bring it."""

from __future__ import annotations

import os
import re
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from engines_stand_in import VERSION, stand_in

from headrace.engines import catalogue
from headrace.engines.base import EngineError, ModelSettings, ReplicaSpec
from headrace.engines.catalogue import engine_for
from headrace.engines.program import ProgramEngine
from headrace.fleet.spawn import start_replica
from headrace.models.registry import Registry

PAGE = Path(__file__).parents[2] / "docs/howto/add-an-engine.md"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProgramEngine:
    """The page's code installed, with its entry point, for this process and its children."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (name, value), *_ = re.findall(r'^([\w-]+) = "(my_engines:\w+)"$', PAGE.read_text(), re.MULTILINE)
    packages = tmp_path / "packages"
    about = packages / "my_engines-1.dist-info"
    about.mkdir(parents=True)
    (packages / "my_engines.py").write_text(code)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-engines\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{catalogue.GROUP}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    stand_in(packages, "llama-server")
    monkeypatch.setenv("PATH", str(packages), prepend=os.pathsep)
    found: ProgramEngine = engine_for("llama-server")  # type: ignore[assignment]
    return found


def model_of() -> ModelSettings:
    return ModelSettings(name="mine", engine="llama-server", weights="org/mine", context=4096, slots=2)


def test_its_command_line(engine: ProgramEngine, tmp_path: Path) -> None:
    spec = ReplicaSpec(replica="r1", model=model_of(), secret="s3cret")
    launch = engine.launch(spec, 4321, tmp_path)
    assert " ".join(launch.argv[1:]) == (
        "--model org/mine --alias mine --host 127.0.0.1 --port 4321 --threads 1 --ctx-size 8192 --parallel 2 "
        "--batch-size 256 --ubatch-size 256"
    )
    assert launch.environment == {"LLAMA_API_KEY": "s3cret"}


def test_it_can_be_registered_by_name(engine: ProgramEngine, tmp_path: Path) -> None:
    model = Registry(tmp_path / "models").add("mine", engine="llama-server", weights="org/mine", gpus=0)
    assert (model.engine, model.weights, model.gpus) == ("llama-server", "org/mine", 0)


async def test_it_runs_a_replica(engine: ProgramEngine, tmp_path: Path) -> None:
    replica = await start_replica(model_of(), log=tmp_path / "replica.log", timeout_s=30.0)
    await replica.stop()
    assert replica.engine_version == f"llama-server {VERSION}"


def test_an_engine_that_cannot_be_loaded_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoints([EntryPoint("broken", "no_such_module:Engine", catalogue.GROUP)])
    monkeypatch.setattr(catalogue, "entry_points", lambda group: broken.select(group=group))
    with pytest.raises(EngineError, match=r"'broken' \(no_such_module:Engine\) cannot be loaded: No module named"):
        engine_for("broken")
    with pytest.raises(EngineError, match=r"no engine 'other'; there are: .*vllm, broken"):
        engine_for("other")
