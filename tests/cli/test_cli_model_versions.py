"""Versions of a model on the command line: registered beside each other, told apart, and measured by themselves."""

from __future__ import annotations

import json
from typing import Protocol

import pytest
from msgspec.structs import replace

from headrace.cli.errors import UsageError
from headrace.cli.main import main
from headrace.cli.model_option import name_and_version
from headrace.models.registry import Registry
from headrace.paths import DataDir
from headrace.profiles.files import path_of, save, shipped

SIMULATED = ("--simulated", '{"null": true}')


class Run(Protocol):
    def __call__(self, *words: str) -> tuple[int, str]: ...


@pytest.fixture
def run(data_dir: DataDir, capsys: pytest.CaptureFixture[str]) -> Run:
    """``models`` with these words; its exit status and all that it said."""

    def call(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["models", *words, "--data-dir", str(data_dir.root)])
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    return call


@pytest.fixture
def both(run: Run) -> None:
    """Two versions of one model."""
    assert run("add", "m", *SIMULATED) == (0, "m/1 is registered (simulated)")
    assert run("add", "m", *SIMULATED, "--slots", "2", "--model-version", "2") == (0, "m/2 is registered (simulated)")


@pytest.mark.usefixtures("both")
def test_each_version_is_listed_and_shown_by_itself(run: Run) -> None:
    models = json.loads(run("list", "--json")[1])["models"]
    listed = [(model["version"], model["slots"]) for model in models if model["name"] == "m"]
    assert listed == [("1", 1), ("2", 2)]
    assert "m/1 simulated" in run("list")[1] and "m/2 simulated" in run("list")[1]
    assert run("show", "m")[1].startswith("m/2: engine simulated, 2 slots")
    for words in (("m/1",), ("m", "--model-version", "1")):
        assert run("show", *words)[1].startswith("m/1: engine simulated, 1 slot of")
    told = json.loads(run("show", "m/1", "--json")[1])
    assert (told["model"]["version"], told["versions"]) == ("1", ["1", "2"])


@pytest.mark.usefixtures("both")
def test_a_profile_of_one_version_is_not_taken_for_the_other(run: Run, data_dir: DataDir) -> None:
    provisional, first = shipped("smollm2-135m-instruct"), Registry(data_dir.models).get("m", "1")
    assert provisional is not None
    profile = replace(provisional, model="m", engine="simulated", simulated=True, chunk=1234, status="quick")
    save(path_of(first, data_dir.profiles), profile)
    assert "chunk 1,234" in run("show", "m/1")[1]
    shown = run("show", "m/2")[1]
    assert "never measured here: headrace profile m/2" in shown and "1,234" not in shown
    assert run("list")[1].count("1,234") == 1


@pytest.mark.usefixtures("both")
def test_a_version_is_removed_by_its_number(run: Run) -> None:
    code, said = run("remove", "m")
    assert code == 1 and "model 'm' has versions 1 and 2: say which is meant" in said
    assert run("remove", "m/1") == (0, "m/1 is no longer registered")
    assert json.loads(run("remove", "m", "--json")[1]) == {"model": "m", "version": "2", "removed": True}


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("add", "m", *SIMULATED, "--model-version", "2"), 1, "version 2 of model 'm' is registered already"),
        (("add", "m", *SIMULATED), 1, "model 'm' has versions 1 and 2: say which is meant"),
        (("add", "m/2", *SIMULATED, "--model-version", "3"), 2, "'m/2' is version 2, and --model-version says 3"),
        (("add", "m", *SIMULATED, "--model-version", "new"), 1, "version is 'new'; expected a whole number"),
        (("add", "Qwen/Qwen3-0.6B", *SIMULATED), 2, "'Qwen/Qwen3-0.6B' is no model: expected its name"),
        (("show", "m/3"), 1, "model 'm' has versions 1 and 2, not 3"),
        (("remove", "m", "--model-version", "3"), 1, "model 'm' has versions 1 and 2, not 3"),
    ],
)
def test_what_is_not_clear_or_not_there_is_refused_with_what_there_is(
    run: Run, words: tuple[str, ...], status: int, said: str
) -> None:
    assert run(*words)[0] == status
    assert said in run(*words)[1]


@pytest.mark.usefixtures("both")
def test_a_version_is_replaced_by_the_same_number(run: Run, data_dir: DataDir) -> None:
    assert run("add", "m/1", *SIMULATED, "--slots", "7", "--replace")[0] == 0
    assert [Registry(data_dir.models).get("m", version).slots for version in ("1", "2")] == [7, 2]


@pytest.mark.parametrize(
    ("text", "said", "told"),
    [
        ("m", None, ("m", None)),
        ("m", "2", ("m", "2")),
        ("m/2", None, ("m", "2")),
        ("m/2", "2", ("m", "2")),
        ("system.ai.llama/12", None, ("system.ai.llama", "12")),
    ],
)
def test_a_version_stands_behind_the_name_or_in_an_option(
    text: str, said: str | None, told: tuple[str, str | None]
) -> None:
    assert name_and_version(text, said) == told


@pytest.mark.parametrize("text", ["m/", "/2", "m/x", "m/2/3", "models:/m/2", "m/-1"])
def test_other_words_are_no_model(text: str) -> None:
    with pytest.raises(UsageError, match="is no model"):
        name_and_version(text)
