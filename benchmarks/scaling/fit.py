"""Iteration-time models from the table of measured prompt and token times of splitwise-sim: the figures of
``replicas``.

    .venv/bin/python benchmarks/scaling/fit.py perf_model.csv --hardware h100-80gb --parallel 4

A row is a batch of equal requests on an otherwise idle engine: the prefill of all of them in one iteration, and then
iterations in which all of them decode. Times are in milliseconds.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from replicas import best_slots, chunk_of

from headrace.profiles.iteration import solve
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import Content

BUDGET = 2048
"""Prompt tokens in one iteration: vLLM's default for online serving. The table has none, as it was made without chunked
prefill."""
MOST_SLOTS = 64
MOST_PROMPT = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default="llama2-70b")
    parser.add_argument("--hardware", default="h100-80gb")
    parser.add_argument("--parallel", type=int, default=4, help="GPUs of a replica")
    given = parser.parse_args()
    contents: list[Content] = []
    seconds: list[float] = []
    with given.table.open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], row["hardware"], int(row["tensor_parallel"])) != (
                given.model,
                given.hardware,
                given.parallel,
            ):
                continue
            prompt, batch, out = (int(row[name]) for name in ("prompt_size", "batch_size", "token_size"))
            # Larger batches are prefilled in several iterations, and how is not said.
            if batch * prompt <= MOST_PROMPT:
                contents.append(Content(1, batch * prompt, 0, 0, batch * prompt**2 / 2))
                seconds.append(float(row["prompt_time"]) / 1000)
            contents.append(Content(1, 0, batch, batch * (prompt + out / 2), 0))
            seconds.append(float(row["token_time"]) / 1000)
    found, _ = solve(contents, np.array(seconds))
    predicted = np.array(contents) @ found
    error = np.abs(predicted / np.array(seconds) - 1)
    base_s, prefill_s, decode_s, context_s, attention_s = (float(f"{value:.4g}") for value in found)
    model = IterationTime(
        base_s=base_s,
        prefill_s=prefill_s,
        decode_s=decode_s,
        context_s=context_s,
        attention_s=attention_s,
        prefill_budget=BUDGET,
    )
    slots = best_slots(model, MOST_SLOTS)
    print(model)
    print(f"{len(seconds)} rows, error: median {np.median(error):.1%}, p90 {np.quantile(error, 0.9):.1%}")
    print(f"{slots} slots, {chunk_of(model, slots):.0f} reference tokens/s")


if __name__ == "__main__":
    main()
