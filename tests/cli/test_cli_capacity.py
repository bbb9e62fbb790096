"""``headrace capacity`` as a user has it: an answer in its time, kept on the way, and clear words where there is
none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_openai import OpenAi, always, complete, whole
from virtual_run import VirtualServer

from headrace.bench.capacity import live
from headrace.bench.results import gates
from headrace.cli.main import main

SMALL = ("--input-tokens", "16", "--output-tokens", "2")
SLO = ("--slo", "ttft_p80=10s")
"""With so much room, a busy machine makes no probe invalid."""
REFUSED = {"error": {"message": "the words of the server"}}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs ``headrace capacity`` with these words: its exit status, and what it said on either output."""
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "HEADRACE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["capacity", *words])
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "this is a bug" not in said.err
        return status, " ".join(said.out.split()), " ".join(said.err.split())

    return run


class OneByOne:
    """A server that takes so long for each answer, and makes one at a time: more users bring nothing more."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._turn = seconds, asyncio.Lock()

    async def __call__(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        async with self._turn:
            await asyncio.sleep(self._seconds)
            await complete(body, writer)


def test_a_search_answers_keeps_its_state_and_answers_the_same_from_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real connections, at an eighth of what the server does and with limits a thousand times as long as an answer
    takes: whatever else the machine does, the rate holds."""
    monkeypatch.setattr(gates, "MAX_STOLEN", 1.0)
    monkeypatch.setattr(live, "SETTLE_S", 0.0)
    words = (*SMALL, *SLO, "--budget", "10m", "--most-rate", "10", "--state", "state.json")
    with OpenAi(OneByOne(0.01)) as server:
        status, out, _ = command(f"{server.url}/v1", *words, "--out", "answer.json")
        kept = (tmp_path / "state.json").read_bytes()
        again = command(f"{server.url}/v1", *words, "--json")
        assert kept == (tmp_path / "state.json").read_bytes()
        elsewhere = command(f"{server.url}/v1", *words, "--cv", "3")
        otherwise = command(f"{server.url}/v1", *words, "--seed", "7")
    assert status == again[0] == 0 and "PASS" in out
    assert "wanted: 80% of requests with TTFT at most 10 s, from when due" in out
    assert "floor 1 users" in out and "bracket" in out
    written = json.loads((tmp_path / "answer.json").read_text())
    assert json.loads(again[1])["answer"] == written["answer"]
    assert written["answer"]["input_tokens"] == 16 and written["answer"]["output_tokens"] == 2
    assert "with other requests, arrivals or target: name another file" in elsewhere[2]
    assert "of a search with another SLO, seed, width or highest rate" in otherwise[2]
    assert elsewhere[0] == otherwise[0] == 1


def test_a_search_whose_budget_ended_goes_on_with_a_larger_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = VirtualServer(slots=4, service_s=1.0)
    monkeypatch.setattr(live, "Run", server.run)
    monkeypatch.setattr(live, "time", server.clock)
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(live, "SETTLE_S", 0.0)
    words = (*SMALL, "--slo", "e2e_p80=3s", "--width", "30", "--state", "state.json")
    with OpenAi() as api:
        short = command(f"{api.url}/v1", *words, "--budget", "20s")
        kept = json.loads((tmp_path / "state.json").read_text())["told"]
        longer = command(f"{api.url}/v1", *words, "--budget", "20m")
        shorter = command(f"{api.url}/v1", *words, "--budget", "1m")
    assert short[0] == 4 and "Go on with a budget of at least" in short[2]
    assert longer[0] == 0 and "PASS" in longer[1]
    gone_on = json.loads((tmp_path / "state.json").read_text())["told"]
    assert gone_on[: len(kept)] == kept and len(gone_on) > len(kept) > 0
    assert shorter[0] == 1 and "the search has a budget of 1200 s already, not 60 s: name as much or more" in shorter[2]


def test_a_budget_that_ends_before_the_first_answer_resolves_nothing_and_says_what_would(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = VirtualServer(slots=4, service_s=30.0)
    monkeypatch.setattr(live, "Run", server.run)
    monkeypatch.setattr(live, "time", server.clock)
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(live, "SETTLE_S", 0.0)
    with OpenAi() as api:
        status, _, err = command(f"{api.url}/v1", *SMALL, "--slo", "e2e_p80=60s", "--budget", "5s")
    assert status == 4 and "UNRESOLVED: the budget ended before one answer was complete" in err
    assert "some hundred times as long as an answer takes" in err


def test_an_slo_that_is_none_is_a_wrong_word(command: Command) -> None:
    status, _, err = command("http://127.0.0.1:1/v1", "--slo", "fast")
    assert status == 2 and "expected metric_pQUANTILE=LIMIT" in err


def test_an_interrupted_search_says_how_far_it_came_and_keeps_it(tmp_path: Path) -> None:
    words = (*SMALL, *SLO, "--budget", "5m", "--state", "state.json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    with OpenAi() as server, ExitStack() as closing:
        search = closing.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "from headrace.cli.main import main; main()", "capacity", server.url, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=environment,
                start_new_session=True,
            )
        )
        closing.callback(search.kill)
        for _ in range(40):  # more than one stream alone is asked for: the first probe has been told
            assert server.answered.acquire(timeout=60)
        os.killpg(search.pid, signal.SIGINT)
        out, err = search.communicate(timeout=60)
    assert (search.returncode, out) == (130, "")
    assert err.startswith("headrace: interrupted after ") and err.endswith("; state.json keeps what was found\n")
    assert json.loads((tmp_path / "state.json").read_text())["told"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("401 Unauthorized", "the key is missing, wrong, or not for this endpoint"),
        ("404 Not Found", "check the URL's path and the model's name"),
        ("429 Too Many", "a limit of the endpoint or key, not its capacity"),
        ("503 Unavailable", "were answered 503"),
    ],
)
def test_a_server_that_answers_nothing_has_no_capacity_to_be_found(command: Command, status: str, words: str) -> None:
    with OpenAi(always(whole(status, REFUSED))) as server:
        ended, out, err = command(f"{server.url}/v1", *SMALL, *SLO)
    assert (ended, out) == (1, "")
    assert "no request was answered, so there is no capacity to be found" in err and words in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--slo", "fast"), "expected metric_pQUANTILE=LIMIT"),
        ((*SLO, "--budget", "soon"), "--budget is 'soon'; expected a time such as 90s or 20m"),
        ((*SLO, "--width", "0"), "--width is 0; expected percent, such as 5"),
        ((*SLO, "--cv", "-1"), "--cv is -1; expected a number above 0"),
        ((*SLO, "--cv", "nan"), "--cv is nan; expected a number above 0"),
        ((*SLO, "--most-rate", "0"), "--most-rate is 0; expected a number above 0"),
        ((*SLO, "--demand", "-1"), "--demand is -1; expected a number above 0"),
        ((*SLO, "--dataset", "a", "--trace", "b"), "give one of --dataset and --trace"),
        ((*SLO, "--dataset", "none.jsonl"), "cannot read none.jsonl: No such file"),
        ((*SLO, "--out", "nowhere/x.json"), "cannot write nowhere/x.json: there is no folder nowhere"),
        ((*SLO, "--state", "nowhere/x.json"), "cannot write nowhere/x.json: there is no folder nowhere"),
        ((), "Missing option '--slo'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_a_request_is_sent(command: Command, words: tuple[str, ...], said: str) -> None:
    with OpenAi() as server:
        status, out, err = command(f"{server.url}/v1", *words)
    assert status in (1, 2) and said in err and not out
    assert not server.asked


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "missing required field `format`"),
        ("not json", "JSON is malformed"),
        ('{"format": 9, "target": "", "load": {"model": "m", "arrivals": {"type": "closed", "users": 1}, '
         '"amount": {}}, "cv": null, "told": []}', "it has format 9; this version reads 1"),
    ],
)  # fmt: skip
def test_a_file_that_keeps_no_search_is_told_and_left_as_it_is(
    command: Command, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "state.json").write_text(content)
    with OpenAi() as server:
        status, _, err = command(f"{server.url}/v1", *SMALL, *SLO, "--state", "state.json")
    assert status == 1 and "cannot go on from state.json: " in err and said in err
    assert (tmp_path / "state.json").read_text() == content and not server.asked
