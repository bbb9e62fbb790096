"""The two floors as rows: a bare receive loop, and a bare timer loop."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
from client_row import ScriptRow
from told import Told, by_request_id
from truth import Truth


class Bare(ScriptRow):
    name = "bare"
    file = "bare.py"
    version = f"uvloop {metadata.version('uvloop')}"
    settings = "one time a read, the end of an answer by its last bytes; no parser, no tokens, no records"

    def told(self, folder: Path, truth: Truth) -> Told:
        with np.load(folder / "told.npz") as arrays:
            number, due_ns, sent_ns, first_ns = arrays["done"].T
        request = by_request_id([f"{each:08d}" for each in number], truth)
        return Told(request, (first_ns - sent_ns) / 1e9, truth.tokens[request].astype(np.int64), due_ns)


class Timer(ScriptRow):
    name = "timer"
    file = "timer.py"
    version = ""
    settings = "sleeps until a request is due, sends it, and leaves the answer to the kernel"
    open_loop_only = True

    def told(self, folder: Path, truth: Truth) -> Told:
        with np.load(folder / "told.npz") as arrays:
            planned_ns = arrays["planned_ns"]
        request = by_request_id([f"{each:08d}" for each in range(len(planned_ns))], truth)
        nothing = np.full(len(request), np.nan)
        return Told(request, nothing, truth.tokens[request].astype(np.int64), planned_ns)
