"""The process of a replica whose engine is a program: ``python -m headrace.engines.program_replica``, a ``ReplicaSpec``
on stdin.

It starts the program on a free port of 127.0.0.1, asks it until it is ready, sends it one short request so that the
first user does not pay for what is done once, and then says on stdout that it is ready. What the program writes goes to
stderr. SIGTERM ends both; when the program ends, so does this, and says with which words.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from headrace.engines.base import EngineError, ReplicaReport, ReplicaSpec
from headrace.engines.catalogue import engine_for
from headrace.engines.loopback import HOST, ask
from headrace.engines.program import Launch, ProgramEngine

ASK_EVERY_S = 0.25
ANSWER_S = 10.0
WARM_UP_S = 300.0
"""The first request may compile kernels."""
END_WITHIN_S = 10.0
"""Between SIGTERM and SIGKILL; who stops the replica may allow less, and then ends the process group."""
LAST_LINES = 5
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork


class Program:
    """The running program."""

    def __init__(self, launch: Launch) -> None:
        """Raises OSError. In the main thread: the program gets SIGKILL when the thread ends that forked it."""
        parent = os.getpid()
        self.name = Path(launch.argv[0]).name
        self._process = subprocess.Popen(
            launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(launch.environment),
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509  (two system calls, no locks)
        )
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def wait(self) -> int:
        """Until it has ended and all its words are read; its exit code."""
        code = self._process.wait()
        self._reader.join(timeout=1.0)  # a child of it that lives on may hold the pipe
        return code

    def last_words(self) -> str:
        text = b" / ".join(line.strip() for line in self._last).decode(errors="replace")
        return f"its last lines: {text}" if text else "it said nothing"

    def _read(self) -> None:
        for line in cast(IO[bytes], self._process.stdout):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            if line.strip():
                self._last.append(line)


def main() -> int:
    started = time.monotonic()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then sends SIGTERM
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaSpec)
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    say(ReplicaReport(state="loading"))
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-replica-") as folder:
            return run(spec, started, stopping, Path(folder))
    except (EngineError, OSError) as error:
        say(ReplicaReport(state="failed", error=f"model {spec.model.name!r}: {error}"))
        return 1


def run(spec: ReplicaSpec, started: float, stopping: threading.Event, folder: Path) -> int:
    """Until the program has ended. Raises EngineError and OSError where it does not get ready."""
    engine = cast(ProgramEngine, engine_for(spec.model.engine))
    # Free now. Where somebody takes it meanwhile, the program says so and ends, and the replica is started again.
    port = free_port()
    program = Program(engine.launch(spec, port, folder))
    server = Server(port, spec.secret)
    try:
        until = started + engine.ready_within_s
        while not (ready := server.is_ready()) and not stopping.wait(ASK_EVERY_S) and not program.ended:
            if time.monotonic() >= until:
                raise EngineError(
                    f"{program.name} was not ready in {engine.ready_within_s:g} s; {program.last_words()}"
                )
        if ready:
            server.warm_up(spec.model.name)
            version = server.version(*engine.version_at)
            say(
                ReplicaReport(
                    state="ready",
                    url=f"http://{HOST}:{port}",
                    load_s=round(time.monotonic() - started, 3),
                    engine_version=f"{engine.name} {version}" if version else None,
                )
            )
        while not stopping.wait(ASK_EVERY_S) and not program.ended:
            pass
    finally:
        asked = stopping.is_set()
        if not program.ended:
            program.end()
        code = program.wait()
    if asked:
        return 0
    when = "after it was ready" if ready else "before it was ready"
    raise EngineError(f"{program.name} ended with code {code} {when}; {program.last_words()}")


class Server:
    """The program's HTTP server, as far as a replica asks it."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._secret = secret

    def is_ready(self) -> bool:
        try:
            return self._ask("GET", "/health")[0] == 200
        except OSError:
            return False  # it does not listen yet

    def warm_up(self, model: str) -> None:
        """One short request. Raises EngineError where the server cannot answer it."""
        asked: dict[str, dict[str, Any]] = {
            "/v1/completions": {"model": model, "prompt": "Water flows", "max_tokens": 4},
            "/v1/embeddings": {"model": model, "input": "Water flows"},  # for a model that generates nothing
        }
        answers = []
        for path, body in asked.items():
            try:
                status, text = self._ask("POST", path, body, WARM_UP_S)
            except OSError as error:
                raise EngineError(f"the first request was not answered: {error or type(error).__name__}") from None
            if status == 200:
                return
            answers.append(f"{path} was answered {status}: {text[:300].decode(errors='replace')}")
        raise EngineError("; ".join(answers))

    def version(self, path: str, member: str) -> str | None:
        try:
            status, text = self._ask("GET", path)
            return str(json.loads(text)[member]) if status == 200 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not worth failing for

    def _ask(self, method: str, path: str, body: object = None, timeout_s: float = ANSWER_S) -> tuple[int, bytes]:
        return ask(self._port, method, path, self._secret, body, timeout_s=timeout_s)


def free_port() -> int:
    """Of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with(parent: int) -> None:
    if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(1)


def say(report: ReplicaReport) -> None:
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
