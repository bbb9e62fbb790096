"""A load run: starts the workers, tells them when to begin and when to end, and gathers what they wrote."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
import uuid
from pathlib import Path

import msgspec

from headrace.bench.client.merge import Merge
from headrace.bench.client.records import ProcessReport, Records
from headrace.bench.client.shares import planned_s, useful_processes
from headrace.bench.client.spec import ClientSpec, Report, Task, origin
from headrace.bench.client.stolen import Stolen
from headrace.bench.errors import BenchError
from headrace.bench.workload.sessions import SessionWorkload
from headrace.bench.workload.source import open_workload
from headrace.fleet.child import RunningChild
from headrace.fleet.log_file import LogFile
from headrace.fleet.protocol import Child, ChildSpec

READY_TIMEOUT_S = 120.0
"""A large dataset takes a while to be read."""
LEAD_S = 0.05
"""From the word to the zero of the run: it reaches every worker in time."""
END_TIMEOUT_S = 30.0
"""For a worker to write its last records."""


def records_file(directory: Path, share: int) -> Path:
    """Where the records of one process are."""
    return directory / f"records-{share}.bin"


class _Worker:
    """One child of the run, and how to tell it something."""

    def __init__(self, share: int, child: RunningChild, pipe: int, log: LogFile) -> None:
        self.share = share
        self.child = child
        self._pipe = pipe
        self._log = log

    @property
    def report(self) -> Report | None:
        """The last."""
        given = self.child.state.report
        return None if given is None else msgspec.convert(given, Report)

    @property
    def state(self) -> str:
        """``gone`` where it ended without having said that it is done."""
        said = "" if self.report is None else self.report.state
        return "gone" if self.child.exited.is_set() and said != "done" else said

    def tell(self, command: str) -> None:
        if not self.child.exited.is_set():
            try:
                os.write(self._pipe, f"{command}\n".encode())
            except OSError:
                return  # it ends just now, which its exit will say

    async def end(self, grace_s: float) -> None:
        """Returns when it has ended, by force where it must be."""
        try:
            async with asyncio.timeout(grace_s):
                await self.child.exited.wait()
        except TimeoutError:
            await self.child.stop(0)
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self._log.close()

    def process(self, wall_s: float) -> ProcessReport:
        """What it said of itself, or why it could not."""
        if self.report is not None and self.report.process is not None:
            return self.report.process
        tail = self.child.state.tail.splitlines()
        said = (self.report.error if self.report else None) or (tail[-1] if tail else "it said nothing")
        return ProcessReport(
            process=self.share,
            wall_s=wall_s,
            cpu_s=0.0,
            loop_lag_p50_s=0.0,
            loop_lag_p99_s=0.0,
            loop_lag_max_s=0.0,
            crashed=f"it ended with code {self.child.state.exit_code}: {said}",
        )


class Run:
    """``start``, then ``finish``; meanwhile ``poll`` as often as is useful, and ``stop`` where it is to end early.

    Belongs to the event loop of the main thread. Workers end with this process, however it ends.
    """

    def __init__(self, spec: ClientSpec, directory: Path) -> None:
        """``directory``: exists, and takes the files of records and logs. Raises BenchError for what cannot be run."""
        if spec.processes < 1 or spec.retries < 0 or spec.timeout_s <= 0 or spec.connect_timeout_s <= 0:
            raise BenchError(
                f"the client is to have {spec.processes} processes, {spec.retries} retries and time-outs of "
                f"{spec.timeout_s:g} s and {spec.connect_timeout_s:g} s (to connect); expected 1 or more processes, 0 "
                "or more retries, and time-outs above 0"
            )
        if spec.key is not None and not (spec.key.isascii() and spec.key.isprintable() and spec.key.strip()):
            raise BenchError("the key holds characters that no header may have; expected printable ASCII")
        self._spec = msgspec.structs.replace(spec, processes=useful_processes(spec.load, spec.processes))
        self._origin = origin(spec.url)
        workload = open_workload(spec.load)
        self.sessions = workload if isinstance(workload, SessionWorkload) else None
        """What is sent, where it is sessions."""
        planned = planned_s(spec.load, workload.trace_s)
        if planned is not None:
            planned = planned[spec.rest.begins :] - spec.rest.schedule_s
        self._planned_s = None if planned is None else tuple(planned.tolist())
        self._directory = directory
        self._files = [records_file(directory, share) for share in range(self._spec.processes)]
        self._merge = Merge(self._files)
        self._workers: list[_Worker] = []
        self._changed = asyncio.Event()
        self._stolen = Stolen()
        self.zero = 0.0
        """Of the run's clock, by ``time.monotonic``."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the workers, in the order of their shares."""
        return tuple(worker.child.state.pid for worker in self._workers)

    async def start(self) -> None:
        """Returns when the load begins. Raises BenchError, and leaves nothing running."""
        addresses = await self._addresses()
        for file in self._files:
            file.unlink(missing_ok=True)
        try:
            for share, file in enumerate(self._files):
                self._workers.append(self._start_worker(share, file, addresses))
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._until("ready")
            gone = [worker for worker in self._workers if worker.state != "ready"]
            if gone:
                report = gone[0].report
                raise BenchError((report and report.error) or gone[0].process(0).crashed or "a worker did not start")
        except BaseException as error:
            for worker in self._workers:
                await worker.end(0)
            if isinstance(error, TimeoutError):
                raise BenchError(f"the processes of the client were not ready in {READY_TIMEOUT_S:g} s") from None
            if isinstance(error, OSError | ValueError):
                raise BenchError(f"cannot start the processes of the client: {error}") from None
            raise
        zero_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        self.zero = zero_ns / 1e9
        self._stolen = Stolen()
        for worker in self._workers:
            worker.tell(f"go {zero_ns}")

    def poll(self) -> Records:
        """What is written so far: all but about the last quarter of a second. Costs what is new since the last time,
        for it takes the processor from the workers where they share one."""
        self._merge.read()
        return self._merge.so_far(self._planned_s, self._stolen.share())

    async def stop(self, abort: bool) -> None:
        """Send nothing more. ``abort``: and cut off what is under way; else it may end. ``finish`` afterwards."""
        for worker in self._workers:
            worker.tell("end" if abort else "drain")

    async def finish(self) -> Records:
        """Returns when all measured requests have ended, or after ``stop``. Load that was kept on is cut off then."""
        try:
            await self._until("through", "done")
            stolen_share = self._stolen.share()
            wall_s = time.monotonic() - self.zero
            for worker in self._workers:
                worker.tell("end")
            await asyncio.gather(*(worker.end(END_TIMEOUT_S) for worker in self._workers))
        except BaseException:
            await asyncio.gather(*(worker.end(0) for worker in self._workers))
            raise
        self._merge.read()
        processes = tuple(worker.process(wall_s) for worker in self._workers)
        return self._merge.records(processes, self._planned_s, stolen_share)

    async def _until(self, *states: str) -> None:
        """Every worker is in one of these, or gone."""
        while not all(worker.state in (*states, "failed", "gone") for worker in self._workers):
            self._changed.clear()
            await self._changed.wait()

    async def _addresses(self) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._origin.host, self._origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            words = error.strerror if isinstance(error, OSError) else error
            raise BenchError(
                f"there is no address for {self._origin.host!r} ({words}); check the URL {self._spec.url!r}"
            ) from None
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))

    def _start_worker(self, share: int, file: Path, addresses: tuple[str, ...]) -> _Worker:
        """Raises OSError and ValueError."""
        read_end, pipe = os.pipe2(os.O_CLOEXEC)
        log = LogFile(self._directory / f"worker-{share}.log")
        task = Task(spec=self._spec, share=share, addresses=addresses, records=str(file), commands=read_end)
        try:
            child = RunningChild(
                ChildSpec(
                    token=uuid.uuid4().hex,
                    kind="load",
                    name=f"load-{share}",
                    argv=(sys.executable, "-m", "headrace.bench.client.worker"),
                    stdin=msgspec.json.encode(task).decode(),
                ),
                log,
                self._on_change,
                pass_fds=(read_end,),
            )
        except BaseException:
            os.close(pipe)
            raise
        finally:
            os.close(read_end)
        return _Worker(share, child, pipe, log)

    def _on_change(self, child: Child) -> None:
        self._changed.set()
