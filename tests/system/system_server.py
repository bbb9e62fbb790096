"""A whole server as a user starts it, for tests: ``headrace serve`` in its own process, stopped at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

HEADRACE = str(Path(sys.executable).with_name("headrace"))
T = TypeVar("T")


class NeverHappened(AssertionError):
    """What a test waited for did not come about in time."""


def until(condition: Callable[[], T | None], *, within_s: float, what: str, every_s: float = 0.05) -> T:
    """The first result of ``condition`` that is neither None nor False. Raises NeverHappened."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result is not None and result is not False:
            return result
        if time.monotonic() > deadline:
            raise NeverHappened(f"not within {within_s:g} s: {what}")
        time.sleep(every_s)


def clean_environment(**more: str) -> dict[str, str]:
    """This process' environment without what would point a client at another server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "DATABRICKS_", "OPENAI_"))}
    if "HEADRACE_CACHE" in os.environ:
        kept["HEADRACE_CACHE"] = os.environ["HEADRACE_CACHE"]
    return kept | more


class Server:
    """One running ``headrace serve`` with its own data directory and a free port."""

    def __init__(self, data_dir: Path, *flags: str, ready_within_s: float = 60) -> None:
        self.data_dir = data_dir
        self.output = data_dir.with_name(data_dir.name + ".out")
        self.flags = flags
        self.ready_within_s = ready_within_s
        self.url = ""

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [HEADRACE, "serve", "--port", "0", "--data-dir", str(self.data_dir), *self.flags],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.data_dir.parent,
                env=clean_environment(),
                start_new_session=True,
            )
        try:
            self.url = until(self._note, within_s=20, what=f"the server says where it listens; it said: {self.said()}")
            until(self.healthy, within_s=self.ready_within_s, what="/healthz says 200")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.said()}") from None

    def _note(self) -> str | None:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}")
        with contextlib.suppress(OSError, ValueError):
            note = json.loads((self.data_dir / "run" / "server.json").read_text())
            if note["pid"] == self.process.pid:
                return str(note["url"])
        return None

    def healthy(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}")
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(self.url + "/healthz", timeout=5).status == 200
        return False

    def said(self) -> str:
        logs = [f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted((self.data_dir / "logs").glob("*.log"))]
        return self.output.read_text()[-4000:] + "\n".join(logs)

    @property
    def key(self) -> str:
        return (self.data_dir / "admin.key").read_text().strip()

    def call(self, method: str, path: str, body: object = None, *, key: str | None = None, timeout: float = 60) -> Any:
        """The JSON answer. Raises ``urllib.error.HTTPError``."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {key or self.key}")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, data, timeout=timeout) as answer:
            return json.loads(answer.read() or b"null")

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def endpoint(self, name: str) -> Any:
        return self.get(f"/api/headrace/v1/endpoints/{name}")

    def events(self, endpoint: str) -> list[Any]:
        answer = self.get(f"/api/headrace/v1/events?endpoint={endpoint}&limit=1000")
        return list(answer["events"])

    def cli(self, *words: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``headrace words`` against this server."""
        done = subprocess.run(
            [HEADRACE, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=clean_environment(HEADRACE_URL=self.url, HEADRACE_API_KEY=self.key),
            cwd=self.data_dir.parent,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"headrace {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def cli_json(self, *words: str, timeout: float = 120) -> Any:
        return json.loads(self.cli(*words, "--json", timeout=timeout).stdout)

    def family(self) -> list[psutil.Process]:
        """Every process below the supervisor that is alive."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def stop(self, within_s: float = 30, *, sign: int = signal.SIGTERM) -> int:
        """End it as a user would; its exit status. Fails where anything is left running."""
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(sign)
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                raise AssertionError(f"the server did not end within {within_s:g} s\n{self.said()}") from None
        _, left = psutil.wait_procs(family, timeout=5)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert not left, f"left running: {left}"
        return int(self.process.returncode)
