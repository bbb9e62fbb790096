"""``headrace profile`` and ``headrace models``: what is said of a profile, and of one that does not hold here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from cli_api import ToyApi

from headrace.bench.profiling import lock, profiler
from headrace.bench.profiling.effort import QUICK, Effort
from headrace.bench.profiling.outcome import Measured
from headrace.bench.profiling.virtual import virtual_profile
from headrace.cli.main import main
from headrace.cli.profile_view import print_profile
from headrace.engines.base import ModelSettings
from headrace.engines.versions import installed_version
from headrace.models.registry import Registry
from headrace.paths import DataDir
from headrace.profiles.files import load, save, shipped
from headrace.profiles.hardware import this_machine
from headrace.profiles.profile import IterationTime, Profile

TRUTH = IterationTime(base_s=0.01, prefill_s=0.005, decode_s=0.004, context_s=2e-6, prefill_budget=256)
DISTURBED = "others used the cores during 9 of 9 blocks"


@pytest.fixture(scope="module")
def found() -> Measured:
    """What the virtual clock's engine is found to do."""
    return virtual_profile(TRUTH, QUICK, slots=1)


@pytest.fixture
def toy(data_dir: DataDir) -> ModelSettings:
    arguments = {"iteration": msgspec.to_builtins(TRUTH)}
    return Registry(data_dir.models).add("toy", simulated=True, engine_args=arguments)


@pytest.fixture
def here(found: Measured, toy: ModelSettings) -> Profile:
    """A profile of the toy model that holds here."""
    return msgspec.structs.replace(
        found.profile,
        id="toy-1",
        model="toy",
        model_sha256=toy.sha256,
        pace=toy.pace,
        engine_version=installed_version("simulated"),
        hardware=this_machine(),
    )


class Run(Protocol):
    def __call__(self, *words: str) -> tuple[int, str]: ...


@pytest.fixture
def run(data_dir: DataDir, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on the data directory: its exit status and all that it said."""

    def call(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--data-dir", str(data_dir.root)])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int | None)
        return ended.value.code or 0, said.out + said.err

    return call


@pytest.fixture(autouse=True)
def another_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured here, so nothing waits for the machine."""
    monkeypatch.setattr(lock, "machine_lock", lambda: tmp_path / "lock")


def measuring(monkeypatch: pytest.MonkeyPatch, measured: Measured) -> list[Effort]:
    """``headrace profile`` finds this, and is asked for these efforts."""
    asked: list[Effort] = []

    async def measure(model: ModelSettings, effort: Effort, **_: object) -> Measured:
        asked.append(effort)
        return measured

    monkeypatch.setattr(profiler, "measure_profile", measure)
    return asked


def path_of(data_dir: DataDir) -> Path:
    return data_dir.profiles / "toy.json"


def test_a_measurement_is_written_and_shown_with_its_intervals(
    run: Run, data_dir: DataDir, found: Measured, here: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = measuring(monkeypatch, msgspec.structs.replace(found, profile=here))
    code, said = run("profile", "toy", "--minutes", "20")
    assert code == 0
    assert load(path_of(data_dir)) == here
    assert asked[0].limit_s < 20 * 60
    for words in (
        "chunk 150 reference tokens/s",
        "95% interval",
        "not fitted to",
        "per cached token",
        "µs for a prompt token",
        "prefill budget",
    ):
        assert words in said
    assert "Not valid" not in said


def test_an_invalid_measurement_takes_the_place_of_none_but_not_of_a_valid_one(
    run: Run, data_dir: DataDir, found: Measured, here: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    invalid = msgspec.structs.replace(here, id="toy-2", problems=(DISTURBED,))
    measuring(monkeypatch, msgspec.structs.replace(found, profile=invalid, disturbed=True))
    code, said = run("profile", "toy")
    assert code == 3 and f"Not valid: {DISTURBED}. Measure again" in said
    assert "quick, doubtful" in said and "INVALID: the profile is doubtful, and toy is sold so" in said
    assert load(path_of(data_dir)) == invalid

    save(path_of(data_dir), here)
    code, said = run("profile", "toy")
    assert code == 1 and "not written: the measurement is not valid" in said
    assert load(path_of(data_dir)) == here

    stale = msgspec.structs.replace(here, engine_version="simulated 0")
    save(path_of(data_dir), stale)
    code, said = run("profile", "toy", "--json")
    told, _, _ = said.partition("\n")
    assert code == 3 and json.loads(told)["kept"] and json.loads(told)["disturbed"]
    assert load(path_of(data_dir)) == invalid


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--quick", "--minutes", "5"), "leave out --minutes and --slo"),
        (("--quick", "--slo", "ttft_p90=2s"), "leave out --minutes and --slo"),
        (("--minutes", "0.1"), "--minutes is 0.1; expected 2 to 240"),
        (("--slo", "ttft=2"), "--slo 'ttft=2': expected metric_pQUANTILE=LIMIT"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    run: Run, toy: ModelSettings, words: tuple[str, ...], complaint: str
) -> None:
    code, said = run("profile", "toy", *words)
    assert code != 0 and complaint in said


OTHER = this_machine()
DOUBTS = [
    ({"model_sha256": "other"}, "measured with other weights of the model"),
    ({"engine_version": "simulated 0"}, "measured with version simulated 0 of the engine, which is now simulated"),
    (
        {"hardware": msgspec.structs.replace(OTHER, cpu="Other CPU")},
        "measured on other hardware: processor Other CPU, here",
    ),
    ({"problems": (DISTURBED,)}, f"its measurement is not valid: {DISTURBED}"),
]


@pytest.mark.parametrize(("changes", "doubt"), DOUBTS)
def test_a_stale_foreign_or_invalid_profile_is_said_to_be_by_every_command_that_shows_it(
    run: Run,
    data_dir: DataDir,
    found: Measured,
    here: Profile,
    changes: dict[str, object],
    doubt: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace_sha(data_dir, "mine")
    old = msgspec.structs.replace(here, **({"model_sha256": settings.sha256} | changes))
    save(path_of(data_dir), old)
    measuring(monkeypatch, msgspec.structs.replace(found, profile=here))

    code, listed = run("models", "list")
    assert code == 0 and f"the profile of toy: {doubt}" in listed and "doubtful" in listed
    code, shown = run("models", "show", "toy")
    assert code == 0 and f"may not hold here: {doubt}" in " ".join(shown.split())
    code, told = run("models", "show", "toy", "--json")
    assert code == 0 and json.loads(told)["profile_doubts"][0].startswith(doubt)
    code, said = run("profile", "toy")
    assert code == 0 and f"the profile so far: {doubt}" in said


def test_a_profile_that_holds_raises_no_doubt(run: Run, data_dir: DataDir, here: Profile) -> None:
    save(path_of(data_dir), here)
    code, listed = run("models", "list")
    assert code == 0 and "150 (quick, simulated)" in listed and "doubtful" not in listed
    code, shown = run("models", "show", "toy")
    assert code == 0 and "may not hold" not in shown and "chunk 150" in shown


def test_a_model_that_was_never_measured_says_what_to_do(run: Run, toy: ModelSettings) -> None:
    assert "never measured" in run("models", "list")[1]
    assert "headrace profile toy" in run("models", "show", "toy")[1]


def test_the_measurement_of_a_server_can_be_stopped(
    run: Run, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "/api/headrace/v1/endpoints"
    endpoints = [
        {"name": "a", "measuring": True, "entities": [{"model": "toy"}]},
        {"name": "b", "measuring": False, "entities": [{"model": "toy"}]},
    ]
    monkeypatch.setenv("HEADRACE_API_KEY", "k")
    with ToyApi({own: [{"endpoints": endpoints}], f"{own}/a/measuring": [{"stopped": True}]}) as api:
        monkeypatch.setenv("HEADRACE_URL", api.url)
        assert run("profile", "--stop") == (0, "stopped; sold by the provisional profile: a\n")
        assert run("profile", "toy", "--stop") == (0, "stopped; sold by the provisional profile: a\n")
        assert run("profile", "other", "--stop") == (1, "headrace: the server measures no 'other' just now\n")
    with ToyApi({own: [{"endpoints": []}]}) as api:
        monkeypatch.setenv("HEADRACE_URL", api.url)
        assert run("profile", "--stop") == (1, "headrace: the server measures nothing just now\n")


def test_a_profile_is_of_a_model_that_is_named(run: Run) -> None:
    code, said = run("profile")
    assert code == 2 and "say which model" in said


def replace_sha(data_dir: DataDir, sha256: str) -> ModelSettings:
    """The toy model as if its weights had this digest."""
    path = data_dir.models / "toy.json"
    settings = msgspec.json.decode(path.read_bytes(), type=ModelSettings)
    settings = msgspec.structs.replace(settings, sha256=sha256)
    path.write_bytes(msgspec.json.encode(settings))
    return settings


def test_what_was_never_measured_is_not_told_as_measured(capsys: pytest.CaptureFixture[str], found: Measured) -> None:
    provisional = shipped("smollm2-135m-instruct")
    assert provisional is not None
    print_profile(provisional)
    tables = capsys.readouterr().out.partition("none of them was measured")[0]
    assert "computed (s)" in tables and "assumed" in tables
    assert "measured (s)" not in tables and "+0.0%" not in tables
    print_profile(found.profile)
    assert "measured (s)" in capsys.readouterr().out
