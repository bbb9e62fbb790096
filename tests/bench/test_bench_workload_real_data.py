"""Importers on the public files that they are for, where those are at hand beside the repository."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.bench.workload.arrivals import due_times
from headrace.bench.workload.datasets.recognise import recognise
from headrace.bench.workload.source import Workload, open_workload
from headrace.bench.workload.spec import Amount, Content, Dataset, LoadSpec, Poisson, Replay

AZURE = "traces/azure-2023-conversation.csv.xz"
MOONCAKE = "traces/mooncake-conversation.jsonl.xz"
ARXIV = "lengths/arxiv-summarization-lengths.csv.xz"
MT_BENCH = "prompts/mt-bench.jsonl"
GSM8K = "prompts/gsm8k-2000.jsonl.xz"
SHAKESPEARE = "prompts/shakespeare-1.5MB.txt.xz"


def found(name: str) -> str:
    for folder in Path(__file__).resolve().parents:
        path = folder / "shared" / "data" / name
        if path.exists():
            return str(path)
    pytest.skip(f"{name} is not at hand")


def load(name: str, **content: Any) -> Workload:
    return open_workload(
        LoadSpec(
            model="m",
            source=Dataset(path=found(name)),
            content=Content(**content),
            arrivals=Poisson(1.0),
            amount=Amount(requests=1),
        )
    )


@pytest.mark.parametrize(
    ("name", "format"),
    [
        (AZURE, "azure"),
        (MOONCAKE, "mooncake"),
        (ARXIV, "lengths"),
        (MT_BENCH, "chat"),
        (GSM8K, "chat"),
        (SHAKESPEARE, "prompts"),
    ],
)
def test_the_format_is_recognised(name: str, format: str) -> None:
    assert recognise(found(name)) == format


def test_azures_conversations_have_the_figures_that_are_published_of_them() -> None:
    workload = load(AZURE)
    assert workload.size == 19_366
    assert workload.findings == ()
    np.testing.assert_allclose(workload.lengths.mean(axis=0), [1154.7, 211.1], atol=0.05)
    due = due_times(Replay(), Amount(), 0, workload.trace_s)
    gaps = np.diff(due)
    assert due[-1] == pytest.approx(3501.7, abs=0.1)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, abs=0.005)


def test_a_trace_replayed_at_another_rate_keeps_its_burstiness() -> None:
    workload = load(AZURE)
    due = due_times(Replay(rate=100.0), Amount(), 0, workload.trace_s)
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(0.01)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, abs=0.005)


def test_a_cache_without_end_reuses_of_mooncakes_prompts_what_the_trace_reuses() -> None:
    """36.6% of blocks. Counted as engines do: a block is known by itself and all before it."""
    workload = load(MOONCAKE, reuse=True)
    assert workload.size == 12_031
    np.testing.assert_allclose(workload.lengths.mean(axis=0), [12_035.1, 342.6], atol=0.05)
    width = len("12345,") * 512
    seen: set[bytes] = set()
    reused = blocks = 0
    for number in range(3000):
        prompt = workload.request(number).body.partition(b'"prompt":[')[2].removesuffix(b"]}") + b","
        chain = hashlib.blake2b(digest_size=16)
        for start in range(0, len(prompt), width):
            chain.update(prompt[start : start + width])
            blocks += 1
            reused += chain.digest() in seen
            seen.add(chain.digest())
    assert reused / blocks == pytest.approx(_trace_reuse(3000), abs=1e-12)
    assert _trace_reuse(12_031) == pytest.approx(0.366, abs=0.0005)


def _trace_reuse(rows: int) -> float:
    seen: set[int] = set()
    reused = blocks = 0
    with lzma.open(found(MOONCAKE), "rt") as lines:
        for _, line in zip(range(rows), lines, strict=False):
            for identity in json.loads(line)["hash_ids"]:
                blocks += 1
                reused += identity in seen
                seen.add(identity)
    return reused / blocks


def test_summaries_of_papers_have_the_lengths_that_are_published_of_them() -> None:
    workload = load(ARXIV)
    assert workload.size == 28_257
    np.testing.assert_allclose(workload.lengths.mean(axis=0), [2588, 291], atol=1)
    assert workload.trace_s is None


@pytest.mark.parametrize(
    ("name", "size", "second"),
    [
        (MT_BENCH, 80, "Draft a professional email seeking your supervisor's feedback"),
        (GSM8K, 2000, "Weng earns $12 an hour for babysitting."),
        (SHAKESPEARE, 20_000, "1"),
    ],
)
def test_public_prompts_are_sent_as_they_are(name: str, size: int, second: str) -> None:
    workload = load(name, reuse=True, api="chat")
    assert workload.size == size
    [message] = json.loads(workload.request(1).body)["messages"]
    assert message["role"] == "user"
    assert message["content"].startswith(second)
