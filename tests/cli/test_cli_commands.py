"""The command as a user calls it: exit status, one clear line, JSON, no traceback, no waiting for imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_api import ToyApi, versions_of

from headrace.cli.errors import UsageError
from headrace.cli.main import COMMANDS, main
from headrace.cli.times import unix_ms

TIMING = '{"iteration": {"base_s": 0.001, "prefill_s": 0.00001, "decode_s": 0.0001, "context_s": 0}}'


def run(*words: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "DATABRICKS_"))}
    environment |= {"HEADRACE_DATA_DIR": str(data_dir), "HEADRACE_CACHE": str(data_dir / "cache")}
    call = [sys.executable, "-c", "from headrace.cli.main import main; main()", *words]
    return subprocess.run(call, capture_output=True, text=True, timeout=60, env=environment, check=False)


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["endpoints", "list"], 1, "no server runs on the data directory"),
        (["status"], 1, "no server runs on the data directory"),
        (["usage", "--url", "http://127.0.0.1:1"], 1, "no server answers at http://127.0.0.1:1"),
        (["load", "x", "--users", "1"], 2, "say how much: --requests N, --duration TIME"),
        (
            ["load", "x"],
            2,
            "say which load: --users N (default 1), --rate, --rate-chunks or --rate-requests R; and",
        ),
        (["load", "x", "--dataset", "missing.jsonl"], 1, "cannot read missing.jsonl"),
        (["load", "x", "--users", "1", "--rate", "5", "-n", "1"], 2, "give one of --users, --rate"),
        (["load", "x", "-n", "1", "--vocabulary", "few"], 2, "--vocabulary is 'few'"),
        (["load", "x", "-n", "1", "--dataset", "missing.jsonl"], 1, "cannot read missing.jsonl"),
        (["load", "x", "-n", "1", "--dataset", "a", "--input-tokens", "3"], 2, "--dataset brings its own prompts"),
        (["models", "pull", "nobody"], 1, "no model 'nobody' in the catalogue"),
        (["models", "add", "m"], 2, "give one of --gguf PATH, --vllm WEIGHTS, --sglang WEIGHTS, --url URL and"),
        (["models", "add", "m", "--gguf", "missing.gguf"], 1, "there is no file"),
        (["models", "add", "m", "--simulated", "{"], 2, "--simulated takes a JSON object"),
        (["models", "remove", "m"], 1, "no model 'm' is registered"),
        (["profile", "m"], 1, "no model 'm'"),
        (["bill", "--from", "yesterday"], 2, "--from is 'yesterday'"),
        (["keys", "create", "--tiers", "gold"], 2, "--tiers is 'gold'"),
        (["endpoints", "create", "x", "--url", "http://127.0.0.1:1"], 2, "say what to serve: --model MODEL, or"),
        (["endpoints", "create", "x", "--entity", "big"], 2, "--entity is 'big'; expected NAME=MODEL"),
        (["endpoints", "create", "x", "--entity", "a=m", "--min-chunks", "1"], 2, "--entity says model and range"),
        (["endpoints", "update", "x", "--entity", "a=m", "--no-scale-to-zero"], 2, "--entity says model and range"),
        (["serve", "--first-endpoint", "x"], 2, "expected NAME=MODEL"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_a_mistake_gets_a_clear_line_and_a_status(
    tmp_path: Path, words: list[str], status: int, complaint: str
) -> None:
    done = run(*words, data_dir=tmp_path)
    assert done.returncode == status, done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    if done.stderr.startswith("headrace: "):
        assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_status_without_a_server_is_json_too(tmp_path: Path) -> None:
    done = run("status", "--json", data_dir=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["running"] is False


def test_a_server_that_ended_without_a_word_is_told_of(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / "run").mkdir()
    note = {"pid": int(gone.stdout), "url": "http://127.0.0.1:1", "started_ms": 0}
    (tmp_path / "run" / "server.json").write_text(json.dumps(note))
    assert "has ended without a word" in run("status", data_dir=tmp_path).stderr


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "Usage: headrace" in capsys.readouterr().out


def test_models_are_registered_listed_and_forgotten(tmp_path: Path) -> None:
    added = run("models", "add", "sim", "--simulated", TIMING, "--slots", "2", "--json", data_dir=tmp_path)
    assert json.loads(added.stdout)["slots"] == 2
    again = run("models", "add", "sim", "--simulated", TIMING, data_dir=tmp_path)
    assert again.returncode == 1 and "is registered already" in again.stderr
    listed = json.loads(run("models", "list", "--json", data_dir=tmp_path).stdout)
    assert [model["name"] for model in listed["models"]] == ["sim"]
    assert [entry["name"] for entry in listed["catalogue"]] == ["smollm2-135m-instruct"]
    assert "sim" in run("models", "list", data_dir=tmp_path).stdout
    assert run("models", "remove", "sim", data_dir=tmp_path).returncode == 0
    assert json.loads(run("models", "list", "--json", data_dir=tmp_path).stdout)["models"] == []


def test_a_listed_model_whose_file_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    settings = {"name": "tiny", "engine": "llamacpp", "path": str(tmp_path / "tiny.gguf")}
    (tmp_path / "models" / "tiny.json").write_text(json.dumps(settings))
    assert "the file is not there" in run("models", "list", data_dir=tmp_path).stdout
    (tmp_path / "tiny.gguf").touch()
    assert "the file is not there" not in run("models", "list", data_dir=tmp_path).stdout


def test_a_command_imports_neither_other_commands_nor_what_it_does_not_need() -> None:
    script = "import sys\nfrom headrace.cli.main import build\nbuild(['events'])\nprint(*sys.modules)\n"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "rich", "fastapi", "sqlalchemy", "uvloop", "headrace.cli.load", "headrace.cli.serve"}
    assert heavy & set(loaded) == set()


def test_times_are_told_in_many_ways() -> None:
    assert unix_ms(None, "--from") is None
    assert unix_ms("1700000000000", "--from") == 1_700_000_000_000
    assert unix_ms("2023-11-14T22:13:20+00:00", "--from") == 1_700_000_000_000
    hour, minute = unix_ms("1h", "--from"), unix_ms("1min", "--from")
    assert hour is not None and minute is not None
    assert 3_539_000 < minute - hour < 3_541_000
    with pytest.raises(UsageError, match="expected a time such as"):
        unix_ms("soon", "--from")


def test_a_bill_names_the_config_of_each_line_and_the_zone_of_its_hour(tmp_path: Path) -> None:
    line = {
        "hour_start_ms": 1_795_392_000_000,
        "entity": "toy-1",
        "entity_id": "n1",
        "config_version": 7,
        "chunk_ms": 3600,
        "price": "1",
        "amount": "0.001",
    }
    told = {"currency": "DBU", "total": "0.001", "bills": [{"endpoint": "chat", "lines": [line]}]}
    with ToyApi({"/api/headrace/v1/bill": [told]}) as api:
        done = run("bill", "--url", api.url, data_dir=tmp_path)
    assert "hour (UTC)" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if "2026-11-23" in line)
    assert row.split()[:3] == ["2026-11-23", "00:00", "7"]


def test_a_bill_of_several_entities_says_whose_each_line_is(tmp_path: Path) -> None:
    line = {"hour_start_ms": 1_795_392_000_000, "config_version": 7, "chunk_ms": 3600, "price": "1", "amount": "0.001"}
    lines = [line | {"entity": name, "entity_id": name} for name in ("big", "small")]
    with ToyApi(
        {
            "/api/headrace/v1/bill": [
                {"currency": "DBU", "total": "0.002", "bills": [{"endpoint": "chat", "lines": lines}]}
            ]
        }
    ) as api:
        said = run("bill", "--url", api.url, data_dir=tmp_path).stdout
    assert [row.split()[2] for row in said.splitlines() if "2026-11-23" in row] == ["big", "small"]


def test_an_endpoint_of_several_entities_is_not_updated_by_the_words_for_one(tmp_path: Path) -> None:
    told = {"entities": [{"name": "big"}, {"name": "small"}]}
    with ToyApi({"/api/headrace/v1/endpoints/x": [told]}) as api:
        done = run("endpoints", "update", "x", "--max-chunks", "2", "--url", api.url, data_dir=tmp_path)
    assert done.returncode == 2
    assert "'x' has 2 served entities (big, small): give each that it is to have as --entity" in done.stderr


def test_options_of_an_endpoint_and_a_key_are_sent_as_they_were_said(tmp_path: Path) -> None:
    info = {"optimizable": True, "headrace": {"chunk": 100}}
    path = "/api/2.0/serving-endpoints/get-model-optimization-info"
    with ToyApi({f"{path}/m/1": [info], **versions_of("m", "1")}) as api:
        words = ("--entity", "a=m,traffic=100", "--entity", "b=m", "--overload", "spill", "--fallback")
        run("endpoints", "create", "x", *words, "--url", api.url, data_dir=tmp_path)
        run("keys", "create", "--weight", "2.5", "--url", api.url, data_dir=tmp_path)
        endpoint, key = api.bodies
    assert endpoint["headrace"] == {"overload": "spill", "fallback": True}
    assert [entity["name"] for entity in endpoint["config"]["served_entities"]] == ["a", "b"]
    assert key["weight"] == 2.5


def test_a_rate_in_chunks_needs_chunks_of_one_size(tmp_path: Path) -> None:
    weights = {"w_in": 1.0, "w_out": 1.5, "w_pp": 0.0, "w_dd": 0.0, "w_c": 0.0}
    range_ = {"min_chunks": 1, "max_chunks": 1, "chunks_ready": 1, "context": 4096}
    entities = [{"weights": weights, "chunk": chunk, "traffic": 50, **range_} for chunk in (100, 30)]
    with ToyApi({"/api/headrace/v1/endpoints/x": [{"entities": entities, "simulated": True}]}) as api:
        done = run("load", "x", "--rate-chunks", "1", "-n", "1", "--url", api.url, data_dir=tmp_path)
    assert done.returncode == 1
    assert "the served entities of 'x' have chunks of different sizes; use --rate" in done.stderr


def test_a_servers_process_is_not_blamed_for_another_url(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    note = {"pid": os.getpid(), "url": "http://127.0.0.1:1", "started_ms": 0}
    (tmp_path / "run" / "server.json").write_text(json.dumps(note))
    assert f"process {os.getpid()} is alive" in run("status", data_dir=tmp_path).stderr
    assert f"process {os.getpid()} is alive" in run("status", "--url", note["url"], data_dir=tmp_path).stderr
    assert "process" not in run("status", "--url", "http://127.0.0.1:9", data_dir=tmp_path).stderr


@pytest.mark.parametrize("simulated", [True, False])
def test_load_on_a_simulated_endpoint_says_that_its_figures_are_no_models(tmp_path: Path, simulated: bool) -> None:
    weights = {"w_in": 1.0, "w_out": 1.5, "w_pp": 0.0, "w_dd": 0.0, "w_c": 0.0}
    range_ = {"min_chunks": 1, "max_chunks": 1, "chunks_ready": 1, "context": 4096}
    told = {"entities": [{"weights": weights, "chunk": 100, "traffic": 100, **range_}], "simulated": simulated}
    with ToyApi({"/api/headrace/v1/endpoints/x": [told]}) as api:
        done = run("load", "x", "-n", "1", "--url", api.url, data_dir=tmp_path)
    assert ("The endpoint runs the simulated engine: these figures are no model's." in done.stdout) is simulated


def test_the_help_tells_what_each_command_does_in_a_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "What the chunks cost, in hourly lines, each with the numbers that it is made from." in said
    assert "..." not in said.partition("Commands:")[2]
