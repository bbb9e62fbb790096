"""Other load clients, each with the settings that its documentation advises for a run like this."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import byte_tokenizer
import msgspec
import numpy as np
from answers import MODEL
from client_row import PEERS, Command, PeerRow
from plan import Load, Plan
from told import Told, by_answer_id, by_request_id
from truth import Truth

PROMPT_BYTES = 192
"""Which are tokens to the tokenizer that the peers are given."""


class AIPerf(PeerRow):
    name = "aiperf"
    package = "aiperf"
    start_s = 40.0
    settings = (
        "--streaming, --use-server-token-count (so that it does not tokenize answers), no interface, no telemetry; "
        "workers and record processors as it chooses; a tokenizer of bytes, made here, for its prompts"
    )

    def command(self, port: int, load: Load, folder: Path) -> Command:
        byte_tokenizer.write(folder / "tokenizer")
        pace = (
            ("--concurrency", str(load.users))
            if load.users is not None
            else ("--request-rate", f"{load.rate:g}", "--arrival-pattern", "constant")
        )
        return Command(
            (
                *(self.environment.program("aiperf"), "profile", "--model", MODEL),
                *("--url", f"http://127.0.0.1:{port}", "--endpoint-type", "chat", "--streaming"),
                *("--tokenizer", str(folder / "tokenizer"), "--use-server-token-count"),
                *("--isl", str(PROMPT_BYTES), "--osl", str(load.answers.tokens), "--random-seed", "1"),
                *pace,
                *("--benchmark-duration", f"{load.seconds:g}", "--benchmark-grace-period", "5"),
                *("--artifact-dir", str(folder / "artifacts"), "--export-level", "records"),
                *("--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"),
            ),
            env={"HOME": str(folder)},
        )

    def told(self, folder: Path, truth: Truth) -> Told:
        return aiperf_told((folder / "artifacts" / "profile_export.jsonl").read_bytes(), truth)


def aiperf_told(lines: bytes, truth: Truth) -> Told:
    """From its records, one line of JSON each."""
    ids, ttft_s, tokens = [], [], []
    for line in lines.splitlines():
        record = msgspec.json.decode(line)
        metrics = record["metrics"]
        if record.get("error") is None and "time_to_first_token" in metrics:
            ids.append(record["metadata"]["x_request_id"])
            ttft_s.append(metrics["time_to_first_token"]["value"] / 1e3)
            tokens.append(int(metrics["output_sequence_length"]["value"]))
    return Told(by_request_id(ids, truth), np.array(ttft_s), np.array(tokens, np.int64))


class GuideLLM(PeerRow):
    name = "guidellm"
    package = "guidellm"
    start_s = 60.0
    settings = (
        "its `perf` extra (uvloop, msgspec, orjson), HTTP/1.1, GUIDELLM__MAX_WORKER_PROCESSES=1 for its one core "
        "(ten would each load PyTorch first), no console; a tokenizer of bytes, made here, for its prompts"
    )

    def command(self, port: int, load: Load, folder: Path) -> Command:
        byte_tokenizer.write(folder / "tokenizer")
        pace = (
            f"kind=concurrent,streams={load.users}" if load.users is not None else f"kind=constant,rate={load.rate:g}"
        )
        return Command(
            (
                *(self.environment.program("guidellm"), "run", "--disable-console"),
                *("--backend", f"kind=openai_http,target=http://127.0.0.1:{port},model={MODEL},http2=false"),
                *("--tokenizer", f"kind=hf_auto,model={folder / 'tokenizer'}"),
                "--data",
                f"kind=synthetic_text,prompt_tokens={PROMPT_BYTES},output_tokens={load.answers.tokens}",
                *("--profile", pace, "--constraint", f"kind=max_duration,seconds={load.seconds:g}"),
                *("--output", f"kind=json,path={folder / 'report.json'}"),
            ),
            env={"GUIDELLM__MAX_WORKER_PROCESSES": "1", "HF_HUB_OFFLINE": "1", "HOME": str(folder)},
        )

    def told(self, folder: Path, truth: Truth) -> Told:
        to_monotonic_s = time.monotonic() - time.time()
        return guidellm_told((folder / "report.json").read_bytes(), to_monotonic_s)


def guidellm_told(report: bytes, to_monotonic_s: float) -> Told:
    """From its report. ``to_monotonic_s``: what leads from its clock, that of the wall, to the server's."""
    (benchmark,) = json.loads(report)["benchmarks"]
    good = benchmark["requests"]["successful"]
    planned_s = np.array([each["info"]["timings"]["targeted_start"] for each in good], float)
    return Told(
        by_answer_id([each["response_id"] for each in good]),
        np.array([each["time_to_first_token_ms"] for each in good], float) / 1e3,
        np.array([each["output_tokens"] for each in good], np.int64),
        np.round((planned_s + to_monotonic_s) * 1e9).astype(np.int64),
    )


LOCUST_LEAD_S = 1.0
"""That the task file leaves for users to be started."""


class Locust(PeerRow):
    name = "locust"
    package = "locust"
    settings = (
        "FastHttpUser, headless, one process for its one core; the task file takes the time of the first event and "
        "reads the usage, which Locust itself does not; at a rate, 64 users, each with "
        "time slots of its own (constant_throughput would send in bursts)"
    )
    users_at_a_rate = 64

    def command(self, port: int, load: Load, folder: Path) -> Command:
        plan = Plan(port=port, load=load, file=str(folder / "told.json"))
        users = load.users or self.users_at_a_rate
        return Command(
            (
                *(self.environment.program("locust"), "--headless", "-f", str(PEERS / "locustfile.py")),
                *(
                    "--users",
                    str(users),
                    "--spawn-rate",
                    str(users),
                    "--run-time",
                    f"{math.ceil(load.seconds + LOCUST_LEAD_S)}s",
                ),
                *("--only-summary", "--loglevel", "WARNING"),
            ),
            env={
                "PLAN": msgspec.json.encode(plan).decode(),
                "BODY": plan.body().decode(),
                "USERS": str(users),
            },
        )

    def told(self, folder: Path, truth: Truth) -> Told:
        found = json.loads((folder / "told.json").read_text())
        return Told(
            by_answer_id([each[0] for each in found]),
            np.array([each[1] for each in found], float),
            np.array([each[2] for each in found], np.int64),
        )
