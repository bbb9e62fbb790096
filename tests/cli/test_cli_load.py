"""``headrace load`` as a user has it: figures of a server that does well, clear words about one that does not."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from cli_openai import DONE, END, FINISH, STREAM, TOKEN, Answer, OpenAi, always, chunk, complete, told_usage, whole

from headrace.cli.main import main

SMALL = ("--input-tokens", "16", "--output-tokens", "4", "--calibration", "0")
LENIENT = ("--slo", "ttft_p90=10s")
"""With so much room, a busy machine makes no run invalid."""
REFUSED = {"error": {"message": "the words of the server"}}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs ``headrace load`` with these words: its exit status, and what it said on either output."""
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "HEADRACE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["load", *words])
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "this is a bug" not in said.err
        return status, " ".join(said.out.split()), " ".join(said.err.split())

    return run


def test_a_run_prints_figures_with_what_they_mean_and_whether_they_hold(command: Command) -> None:
    with OpenAi() as server:
        status, out, _ = command(f"{server.url}/v1", "--users", "4", "-n", "60", "--explain", *SMALL, *LENIENT)
    assert status == 0
    assert "closed loop, 4 users" in out and "TTFT: when due to first token" in out and "output tokens" in out
    assert "90% of requests with TTFT at most 10 s: 100.00%" in out and "of 60: met; goodput" in out
    assert "output length ok 100.0% of answers have exactly the output tokens asked for" in out
    assert "percentile: " in out and "INVALID" not in out
    paths = {path for path, _ in server.asked}
    assert len(server.asked) == 60 and paths == {"/v1/completions"}


def test_the_main_table_and_the_verdict_come_last_and_each_figure_says_what_it_is(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAi() as server, pytest.raises(SystemExit) as ended:
        main(["load", f"{server.url}/v1", "--users", "4", "-n", "60", *SMALL, *LENIENT])
    assert not ended.value.code
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) < 35
    latency = next(place for place, line in enumerate(lines) if line.startswith("latency of complete answers"))
    assert lines[latency + 3].strip().startswith("TTFT: when due to first token ")
    assert [line.split()[0] for line in lines[-3:]] == ["90%", "good:", "VALID:"]
    assert re.fullmatch(r"VALID: \d+ of 13 gates passed, \d+ do not apply \(--explain .*\)", lines[-1])
    assert "output length" not in "\n".join(lines), "a gate that passed is only counted"


def test_a_gate_that_failed_is_told_in_full_at_the_end(command: Command) -> None:
    with OpenAi(always(streamed(40, told_usage(16, 40)))) as server:
        status, out, _ = command(f"{server.url}/v1", "-n", "40", *SMALL, *LENIENT)
    assert status == 3
    last = out[out.index("goodput: good answers") :]
    assert "INVALID: output length: 0.0% of answers have exactly the output tokens asked for" in last


def test_help_shows_the_command_as_it_is_called(command: Command) -> None:
    status, out, _ = command("--help")
    assert status == 0 and out.startswith("Usage: headrace load [OPTIONS] {ENDPOINT|URL}")
    status, _, err = command("http://127.0.0.1:1/v1", "--users")
    assert status == 2 and "load run" not in err
    assert command("compare", "--help")[1].startswith("Usage: headrace load compare [OPTIONS] {A} {B}")


def test_with_json_a_run_is_one_document_and_a_sweep_is_one_too(command: Command) -> None:
    with OpenAi() as server:
        one = command(f"{server.url}/v1", "-n", "40", "--json", *SMALL, *LENIENT)
        sweep = command(f"{server.url}/v1", "--users", "1,2", "-n", "40", "--json", *SMALL, *LENIENT)
    document = json.loads(one[1])
    assert document["valid"] is True and document["whole"]["counts"]["ok"] == 40
    levels = json.loads(sweep[1])["levels"]
    assert [level["spec"]["arrivals"]["users"] for level in levels] == [1, 2]


def test_a_sweep_writes_a_file_for_each_level_and_two_of_them_can_be_compared(command: Command, tmp_path: Path) -> None:
    words = ("--users", "2,2", "-n", "60", "--out", "run.json", "--csv", "run.csv", "--html", "run.html")
    with OpenAi() as server:
        status, out, _ = command(f"{server.url}/v1", *words, *SMALL, *LENIENT)
    assert status == 0 and "all levels" in out
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("run-1.csv", "run-1.json", "run-1.npz", "run-2.csv", "run-2.json", "run-2.npz", "run.html"),
    ]
    with (tmp_path / "run-2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (
        len(rows) == 60
        and {row["outcome"] for row in rows} == {"ok"}
        and {row["output_tokens"] for row in rows} == {"4"}
    )
    page = (tmp_path / "run.html").read_text()
    assert "closed loop" in page.lower() and 'src="http' not in page
    status, out, err = command("compare", "run-1.json", "run-2.json")
    assert "paired by request number" in out and "TTFT p50" in out
    assert "The runs differ in nothing that they were asked for." in out
    assert status == 0 or (status == 5 and "B is worse than A" in err)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("--rate-requests", "100", "--arrivals", "constant"), "open loop, constant, 100 requests/s"),
        (("--rate-requests", "100", "--arrivals", "gamma:2"), "open loop, gamma with CV 2, 100 requests/s"),
        (("--stages", "0.3@50..150,0.1@150"), "open loop, 2 stages"),
    ],
)
def test_an_open_loop_sends_as_its_arrivals_say(command: Command, words: tuple[str, ...], kind: str) -> None:
    with OpenAi() as server:
        _, out, _ = command(f"{server.url}/v1", "-n", "30", *words, *SMALL, *LENIENT)
    assert kind in out
    assert len(server.asked) == 30


def test_a_trace_is_replayed_at_its_own_times(command: Command, tmp_path: Path) -> None:
    rows = "".join(f"{0.02 * number:.2f},ChatGPT,16,4,20,Conversation log\n" for number in range(40))
    (tmp_path / "trace.csv").write_text("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + rows)
    words = ("--dataset", "trace.csv", "--arrivals", "trace", "--calibration", "0", "--out", "run.json", *LENIENT)
    with OpenAi() as server:
        _, out, _ = command(f"{server.url}/v1", *words)
    # The trace comes round again while the last of its 40 requests are answered; that is not measured.
    assert "open loop, the times of a trace" in out and 40 <= len(server.asked) < 80
    whole_load = json.loads((tmp_path / "run.json").read_text())["summary"]["whole"]
    assert whole_load["counts"]["requests"] == 40
    assert whole_load["end_s"] == pytest.approx(0.78, abs=0.1)


def test_chats_of_a_file_go_to_the_chat_route_and_open_answers_are_remarked(command: Command, tmp_path: Path) -> None:
    line = json.dumps({"messages": [{"role": "user", "content": "how are you"}]})
    (tmp_path / "mine.jsonl").write_text(f"{line}\n" * 5)
    with OpenAi() as server:
        status, _, err = command(
            f"{server.url}/v1", "-n", "40", "--dataset", "mine.jsonl", "--calibration", "0", *LENIENT
        )
    assert status == 0 and {path for path, _ in server.asked} == {"/v1/chat/completions"}
    assert "5 of 5 requests of the dataset do not say how long their answers are to be" in err
    assert "the server's own limit holds for them; --output-tokens N gives one" in err


def test_sessions_are_chats_turn_by_turn_with_the_models_own_answers(command: Command, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": words} for words in ("how are you", "why")]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"messages": talk, "max_tokens": 3}) + "\n")
    words = ("--dataset", "mine.jsonl", "--sessions", "10ms", "--calibration", "0", *LENIENT)
    with OpenAi() as server:
        status, out, _ = command(f"{server.url}/v1", "--rate-requests", "100", "-n", "40", *words)
        closed = command(f"{server.url}/v1", "--users", "2", "-n", "40", *words)
    assert status in (0, 3) and "100 sessions/s; 0.01 s to think before each further turn" in out
    asked = [json.loads(body)["messages"] for _, body in server.asked]
    assert sorted(map(len, asked)) == [1] * 40 + [3] * 40
    assert all(each[1] == {"role": "assistant", "content": " the the the"} for each in asked if len(each) == 3)
    assert closed[0] == 2 and "--sessions goes with --rate-requests or --stages" in closed[2]


def test_whole_answers_are_asked_for_and_judged_by_their_end(command: Command) -> None:
    with OpenAi() as server:
        status, out, _ = command(f"{server.url}/v1", "-n", "40", "--no-stream", *SMALL, *LENIENT)
    assert status == 0 and "found" not in out
    assert not any(json.loads(body).get("stream") for _, body in server.asked)


def test_prose_is_made_to_the_length_that_the_server_counts(command: Command) -> None:
    with OpenAi() as server:
        status, out, _ = command(f"{server.url}/v1", "--text", "-n", "40", "--explain", *SMALL, *LENIENT)
    assert status == 0 and "the server counts 0 tokens more or less than the 16 sent" in out


def test_prompts_of_chats_and_more_fields_go_along(command: Command) -> None:
    with OpenAi() as server:
        command(f"{server.url}/v1", "--api", "chat", "-n", "3", "--field", "temperature=0.5", *SMALL)
    path, body = server.asked[-1]
    assert path == "/v1/chat/completions" and json.loads(body)["temperature"] == 0.5


def test_invocations_go_to_their_own_path(command: Command) -> None:
    with OpenAi() as server:
        command(f"{server.url}/serving-endpoints/mine/invocations", "-n", "3", *SMALL)
    assert {path for path, _ in server.asked} == {"/serving-endpoints/mine/invocations"}


def test_the_local_server_is_trusted_by_its_own_certificate(command: Command, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    pinned = tmp_path / "cert.pem"
    pinned.write_bytes(certificate.cert_chain_pems[0].bytes())
    with OpenAi(tls=context) as server:
        note = tmp_path / "data" / "run" / "server.json"
        note.parent.mkdir(parents=True)
        note.write_text(json.dumps({"url": server.url, "tls_cert": str(pinned)}))
        known = command(f"{server.url}/v1", "-n", "40", "--data-dir", "data", *SMALL, *LENIENT)
        unknown = command(f"{server.url}/v1", "-n", "40", *SMALL)
    assert known[0] == 0
    assert unknown[0] == 1 and "certificate verify failed" in unknown[2]


def streamed(tokens: int, usage: bytes) -> bytes:
    return STREAM + chunk(TOKEN * tokens) + chunk(FINISH + usage + DONE) + END


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (always(whole("401 Unauthorized", REFUSED)), 1, "the key is missing, wrong, or not for this endpoint"),
        (always(whole("404 Not Found", REFUSED)), 1, "check the URL's path and the model's name"),
        (always(whole("400 Bad Request", REFUSED)), 1, "refused as ones that the server does not take"),
        (always(whole("429 Too Many", REFUSED)), 1, "answered 429: a limit of the endpoint or key, not its capacity"),
        (always(whole("503 Unavailable", REFUSED)), 1, "were answered 503. The answer says: 503: the words of the se"),
        (always(whole("200 OK", {"choices": "none"})), 1, "the answer is not JSON as the API has it"),
        (always(STREAM + chunk(TOKEN), then_close=True), 1, "closed the connection before the answer was complete"),
        (always(STREAM + chunk(TOKEN + b"data: {oops\n\n" + DONE) + END), 1, "is not JSON as the API has it"),
        (always(b""), 1, "ran into the client's time-out"),
        (
            always(
                whole(
                    "200 OK",
                    {
                        "choices": [{"text": " a", "finish_reason": "length"}],
                        "usage": {"prompt_tokens": 16, "completion_tokens": 4},
                    },
                )
            ),
            0,
            "answers were no stream although one was asked for",
        ),
        (always(streamed(40, told_usage(16, 4))), 0, "Usage tells too few, or events are not tokens"),
        (always(streamed(4, told_usage(900, 4))), 3, "900 input tokens where 16 were sent"),
        (always(streamed(40, told_usage(16, 40))), 3, "40 output tokens where max_tokens was 4: the server ignores it"),
        (always(streamed(2, told_usage(16, 2))), 3, "the server does not take ignore_eos"),
        (always(streamed(4, b"")), 0, "answers told no usage"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_do_as_it_should_is_told_in_words(
    command: Command, answer: Answer, status: int, words: str
) -> None:
    users, count = ("8", "8") if words.startswith("ran into") else ("2", "40")
    with OpenAi(answer) as server:
        said = command(f"{server.url}/v1", "--users", users, "-n", count, "--timeout", "0.5", *SMALL, *LENIENT)
    assert said[0] == status
    assert words in said[1] + said[2]
    if status == 1:
        assert "headrace: no request was answered: " in said[2] and "latency" not in said[1]
    if status == 3:
        assert said[1].count("INVALID") > 2 and "headrace: INVALID: " in said[2]


def test_requests_that_are_turned_away_are_sent_again_where_that_was_asked_for(command: Command) -> None:
    seen: set[bytes] = set()

    async def second_time(body: bytes, writer: asyncio.StreamWriter) -> None:
        if body in seen:
            await complete(body, writer)
        else:
            seen.add(body)
            await asyncio.sleep(0.01)  # at once, the client would be the bottleneck
            writer.write(whole("429 Too Many", REFUSED, b"retry-after-ms: 1\r\n"))

    with OpenAi(second_time) as server:
        status, out, _ = command(f"{server.url}/v1", "--users", "1", "-n", "40", "--retries", "2", *SMALL, *LENIENT)
    assert status == 0 and "40 requests were sent more than once" in out and len(server.asked) == 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "nowhere/run.json"), "cannot write nowhere/run.json: there is no folder nowhere"),
        (("--csv", "."), "cannot write .: it is a folder; name a file"),
        (("--out", "run.npz"), "need files of their own"),
        (("--csv", "same", "--html", "same"), "need files of their own"),
        (("--dataset", "none.jsonl"), "cannot read none.jsonl: No such file"),
        (("--slo", "fast"), "expected metric_pQUANTILE=LIMIT"),
        (("--format", "chat"), "--format is of a --dataset"),
        (("--api", "grpc"), "--api is 'grpc'; expected completions or chat"),
        (("--tokenizer", "none.json"), "none.json is no tokenizer"),
        (("--input-tokens", "0"), "input lengths lie between 0 and 0 tokens"),
        (("--timeout", "nan"), "--timeout is 'nan'; expected a time"),
        (("--processes", "0"), "'--processes'"),
        (("--retries", "-1"), "'--retries'"),
        (("-n", "0"), "'--requests'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_a_request_is_sent(command: Command, words: tuple[str, ...], said: str) -> None:
    with OpenAi() as server:
        status, out, err = command(f"{server.url}/v1", "-n", "40", "--calibration", "0", *words)
    assert status in (1, 2) and said in err and not out
    assert not server.asked


def test_an_slo_that_is_none_is_a_wrong_word(command: Command) -> None:
    status, _, err = command("http://127.0.0.1:1/v1", "-n", "40", "--slo", "ttft_p99=soon")
    assert status == 2 and "expected metric_pQUANTILE=LIMIT" in err


def test_a_full_disk_costs_one_file_and_not_the_others(command: Command, tmp_path: Path) -> None:
    with OpenAi() as server:
        status, out, err = command(
            f"{server.url}/v1", "-n", "40", "--csv", "/dev/full", "--out", "run.json", *SMALL, *LENIENT
        )
    assert status == 1 and err == "headrace: cannot write /dev/full: No space left on device"
    assert "output tokens" in out and (tmp_path / "run.json").exists() and (tmp_path / "run.npz").exists()


class Started:
    """A load in a process of its own, to be interrupted; killed at the end where it still runs."""

    def __init__(self, closing: ExitStack, folder: Path, *words: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.process = closing.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "from headrace.cli.main import main; main()", "load", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        )
        closing.callback(self.process.kill)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_shows_and_writes_what_was_measured(number: signal.Signals, tmp_path: Path) -> None:
    words = ("--users", "2", "-d", "10m", "--out", "run.json", "--csv", "run.csv", "--html", "run.html", *SMALL)
    with OpenAi() as server, ExitStack() as closing:
        load = Started(closing, tmp_path, f"{server.url}/v1", *words)
        for _ in range(40):
            assert server.answered.acquire(timeout=60)
        os.killpg(load.process.pid, number)
        status, out, err = load.end()
    assert status == 130
    assert err == (
        "headrace: interrupted; the figures are of what was answered until then; the same words and --resume go on "
        "from there\n"
    )
    assert "output tokens" in out and (tmp_path / "run.html").exists()
    summary: Any = json.loads((tmp_path / "run.json").read_text())["summary"]
    with (tmp_path / "run.csv").open() as file:
        answered = sum(row["outcome"] == "ok" for row in csv.DictReader(file))
    assert answered == summary["whole"]["counts"]["ok"] > 0


def test_an_interrupt_before_the_first_request_ends_the_command_at_once(tmp_path: Path) -> None:
    """A server that lists its model and then says nothing: its tokens are asked for before the load."""
    with OpenAi(silent=("/v1/completions",)) as server, ExitStack() as closing:
        load = Started(closing, tmp_path, f"{server.url}/v1", "--text", "-n", "40", "--out", "run.json", *SMALL)
        assert server.reached.wait(60)
        load.process.send_signal(signal.SIGINT)
        assert load.end() == (130, "", "headrace: interrupted before the first request\n")
    assert not (tmp_path / "run.json").exists()
