"""One process of the load client: ``python -m headrace.bench.client.worker``, a ``Task`` on standard input.

It says how it stands on standard output, one JSON object a line: ``ready``, ``through`` (its measured requests have
ended) and ``done``, or ``failed``. It is told by lines on a pipe: ``go NANOSECONDS`` (the run's zero, by the monotonic
clock), ``drain`` (send nothing more), ``end``. The end of the pipe ends it too. Ctrl-C is its parent's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop

from headrace.bench.client.course import ClosedCourse, Course, OpenCourse
from headrace.bench.client.flight import Flight
from headrace.bench.client.prepared import Prepared
from headrace.bench.client.pulse import Pulse
from headrace.bench.client.record_file import RecordWriter
from headrace.bench.client.recorder import Recorder
from headrace.bench.client.records import ProcessReport
from headrace.bench.client.sender import Sender
from headrace.bench.client.session_course import SessionCourse
from headrace.bench.client.shares import closed_share, open_share
from headrace.bench.client.spec import Report, Task, origin
from headrace.bench.errors import BenchError
from headrace.bench.workload.sessions import SessionWorkload
from headrace.bench.workload.source import open_workload
from headrace.bench.workload.spec import ClosedLoop
from headrace.wire.tls import TlsError, client_context, pinned_context

AHEAD_S = 0.05
"""How long an answer takes at least, as a guess: an open loop begins with connections for what is due in that time. To
make one takes as long as several requests; a client that had to make many when it is late would be later still."""
MOST_AHEAD = 256


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
        _lift_limit_of_connections()
        uvloop.run(run(task))
    except (BenchError, TlsError, OSError) as error:
        say(Report(state="failed", error=str(error)))
        return 1
    return 0


async def run(task: Task) -> None:
    """Raises BenchError, TlsError and OSError."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_error)
    worker = Worker(task)
    await worker.open_ahead()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), os.fdopen(task.commands, "rb"))
    say(Report(state="ready"))
    telling: asyncio.Task[None] | None = None
    while line := await commands.readline():
        match line.split():
            case [b"go", zero_ns]:
                # What was made up to here stays, and a search for cycles would be a pause in the measurement.
                gc.collect()
                gc.freeze()
                gc.disable()
                worker.start(int(zero_ns) / 1e9)
                telling = asyncio.create_task(_tell_when_through(worker.course))
            case [b"drain"]:
                worker.course.stop()
            case [b"end"]:
                break
    if telling is not None:
        telling.cancel()
        say(Report(state="done", process=worker.end()))


def _on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody handles is this program's own, and what it would go on to measure worth nothing. What was
    written stays."""
    error = context.get("exception")
    if "transport" in context and isinstance(error, OSError):
        return  # a connection that broke, of which its request hears
    said = str(context.get("message")) if error is None else f"{type(error).__name__}: {error}"
    say(Report(state="failed", error=said))
    if error is not None:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


async def _tell_when_through(course: Course) -> None:
    await course.through.wait()
    say(Report(state="through"))


class Worker:
    """Everything that one process does, put together. Belongs to the running event loop."""

    def __init__(self, task: Task) -> None:
        """Raises BenchError and TlsError."""
        spec, load = task.spec, task.spec.load
        self._task = task
        self._recorder: Recorder | None = None
        self._writer: RecordWriter | None = None
        where = origin(spec.url)
        tls = None
        if where.secure:
            tls = client_context() if spec.certificate is None else pinned_context(Path(spec.certificate))
        self._sender = Sender(
            where,
            task.addresses,
            self._landed,
            timeout_s=spec.timeout_s,
            connect_timeout_s=spec.connect_timeout_s,
            retries=spec.retries,
            tls=tls,
        )
        workload = open_workload(load)
        numbers: Iterator[int] = itertools.count(spec.rest.first(task.share), spec.processes)
        texts = load.sessions is not None
        self._prepared = Prepared(workload, numbers, where, spec.key, stream=load.content.stream, texts=texts)
        self.course: Course
        self._ahead = 0
        if isinstance(load.arrivals, ClosedLoop):
            starts_s, requests = closed_share(load, task.share, spec.processes, spec.rest)
            duration_s = load.amount.duration_s
            if duration_s is not None:
                duration_s -= spec.rest.schedule_s
            self.course = ClosedCourse(self._sender, self._prepared, starts_s, requests, duration_s)
        else:
            due_s, measured = open_share(load, workload.trace_s, spec.timeout_s, task.share, spec.processes, spec.rest)
            if isinstance(workload, SessionWorkload):
                self.course = SessionCourse(self._sender, self._prepared, workload, due_s, measured)
            else:
                self.course = OpenCourse(self._sender, self._prepared, due_s, measured)
            self._ahead = min(MOST_AHEAD, int(AHEAD_S * np.searchsorted(due_s, 1.0)))
        self._pulse = Pulse(self._sender.sweep, self._flush)
        self._prepared.fill()

    async def open_ahead(self) -> None:
        """Connections for the beginning of an open loop: its first requests find them open, as those of a service that
        has been up for a while do. Below 20 requests/s there are none."""
        await self._sender.open_ahead(self._ahead)

    def start(self, zero: float) -> None:
        """Raises OSError where nothing can be written."""
        spec = self._task.spec
        self._writer = RecordWriter(Path(self._task.records), zero)
        self._recorder = Recorder(self._writer, zero, self._task.share, spec.key, forced=spec.load.content.force_length)
        self._pulse.start(zero)
        self.course.start(zero)

    def end(self) -> ProcessReport:
        """What is under way is cut off, and everything written. Raises OSError."""
        self.course.stop()
        self._sender.cut_off()
        assert self._writer is not None
        self._writer.close()
        return self._pulse.report(self._task.share)

    def _landed(self, flight: Flight) -> None:
        assert self._recorder is not None
        self._recorder.record(flight)
        self.course.landed(flight)

    def _flush(self, at_least: int) -> None:
        assert self._writer is not None
        self._writer.flush(at_least)


def _lift_limit_of_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def say(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
