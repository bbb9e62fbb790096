"""Client libraries as their users have them: each in an environment with its own pins, unmodified, in a process of its
own that a test tells what to call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from environments import Environment
from system_server import Server, clean_environment

PROGRAMS = Path(__file__).parent / "programs"
PINS = Path(__file__).parent / "pins"
ENVIRONMENTS = Path(__file__).parents[2] / ".venv" / "clients"
"""Made by ``make clients``."""

CALL_S = 90.0
"""The longest that one call may take; a created endpoint is waited for in seconds."""


class Raised(Exception):
    """What the client library raised: the name of its class and of those above it, and its message."""

    def __init__(self, kinds: list[str], message: str) -> None:
        super().__init__(f"{kinds[0]}: {message}")
        self.kinds = kinds


def program_of(environment: str, command: str) -> str:
    """Path of a command in an environment; ``tests`` is the one that runs the tests. Fails where it was not made."""
    if environment == "tests":
        return str(Path(sys.executable).with_name(command))
    found = Environment(PINS / f"{environment}.txt", ENVIRONMENTS)
    assert found.is_there, f"there is no environment for {environment}: run `make clients`"
    return found.program(command)


def surroundings(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for a client: none of this user's own settings, and whatever it writes goes to ``folder``.

    Nothing of a proxy: the server is on this machine.
    """
    kept = {name: value for name, value in clean_environment().items() if not name.lower().endswith("_proxy")}
    return kept | {"HOME": str(folder), "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true"} | variables


class Program:
    """One of ``programs/``; calling it calls a function there."""

    def __init__(self, name: str, *, environment: str, folder: Path, variables: Mapping[str, str]) -> None:
        self._log = folder / f"{name}-{environment}-{os.urandom(4).hex()}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [program_of(environment, "python"), str(PROGRAMS / f"{name}.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=surroundings(folder, variables),
            )
        self._reader = ThreadPoolExecutor(1)

    def __call__(self, function: str, /, **arguments: Any) -> Any:
        """Raises Raised, and AssertionError where the program died or took too long."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._reader.submit(self._process.stdout.readline).result(CALL_S)
        except (BrokenPipeError, TimeoutError):
            line = ""
        if not line:
            raise AssertionError(f"{function}: no answer\n{self._log.read_text()[-4000:]}")
        told = json.loads(line)
        if "raised" in told:
            raise Raised(told["raised"], told["message"])
        return told["result"]

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._reader.shutdown()


class Programs:
    """Programs that talk to one server with its admin key; each is started once."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._running: dict[tuple[str, str, str], Program] = {}
        self._stack = ExitStack()

    def __call__(self, name: str, environment: str, base: str = "/v1") -> Program:
        """``base``: where OpenAI's client finds its paths."""
        started = self._running.get((name, environment, base))
        if started is None:
            variables = {
                "DATABRICKS_HOST": self._server.url,
                "DATABRICKS_TOKEN": self._server.key,
                "OPENAI_BASE_URL": self._server.url + base,
                "OPENAI_API_KEY": self._server.key,
            }
            program = Program(name, environment=environment, folder=self._folder, variables=variables)
            started = self._running[name, environment, base] = self._stack.enter_context(program)
        return started

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
