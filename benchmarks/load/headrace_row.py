"""Headrace's own client as a row."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import numpy as np
from client_row import Command, ScriptRow
from headrace_client import specification
from plan import Load, Plan
from told import Told, by_body
from truth import Truth

from headrace import __version__
from headrace.bench.client.records import Outcome
from headrace.bench.workload.source import open_workload


class Headrace(ScriptRow):
    name = "headrace"
    file = "headrace_client.py"
    version = f"headrace {__version__}"
    settings = (
        "one worker; the parent polls the records twice a second, as the commands do; times from the first byte sent"
    )

    def command(self, port: int, load: Load, folder: Path) -> Command:
        found = super().command(port, load, folder)
        (folder / "plan.json").write_text(found.stdin)
        return found

    def told(self, folder: Path, truth: Truth) -> Told:
        plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)
        with np.load(folder / "told.npz") as arrays:
            requests, zero = arrays["requests"], float(arrays["zero"])
        good = requests[requests["outcome"] == Outcome.OK]
        workload = open_workload(specification(plan).load, None)
        crcs = [zlib.crc32(workload.request(int(number)).body) for number in good["number"]]
        due_ns = np.round((good["scheduled_s"] + zero) * 1e9).astype(np.int64)
        return Told(
            by_body(crcs, truth),
            good["first_s"] - good["sent_s"],
            good["output_tokens"].astype(np.int64),
            due_ns if plan.load.rate is not None else None,
        )
