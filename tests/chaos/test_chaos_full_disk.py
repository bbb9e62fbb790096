"""A full disk under the journal of a whole server: real bytes, by a file system of one megabyte in a mount namespace of
the server's own, and by a limit on the size of the gateway's files (EFBIG in place of ENOSPC)."""

from __future__ import annotations

import resource
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import system_server
from chaos_books import Journals, Ledger
from chaos_process import Children
from openai import APIStatusError, OpenAI
from system_server import Server, until
from system_simulated import register_simulated

from headrace.journal.records import Rejected, Settled
from headrace.paths import DataDir
from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

ITERATION = IterationTime(base_s=0.008, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
"""About 100 output tokens a second."""
LONG, SHORT = 300, 3
"""Output tokens."""

Flags = tuple[str, ...]


class TinyFileSystem:
    """Of 1 MiB, at the journal's folder."""

    said = "No space left on device"

    def __init__(self, data: DataDir, server: Server) -> None:
        self.journal = Path(f"/proc/{server.process.pid}/root{data.journal}")
        self._filler = self.journal / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass

    def empty(self) -> None:
        self._filler.unlink()

    @staticmethod
    def program(data: DataDir, real: str, folder: Path) -> str:
        """A command that makes the file system, and then is the server."""
        mount = f"mount -t tmpfs -o size=1m,mode=700 tmpfs {shlex.quote(str(data.journal))}"
        return _script(folder / "serve", f'exec unshare -rm sh -c \'{mount} && exec "$0" "$@"\' {real} "$@"')


class LimitedFiles:
    """Of the gateway's process."""

    said = "File too large"

    def __init__(self, data: DataDir, server: Server) -> None:
        self.journal = data.journal
        self._children = Children(data.logs / "supervisor.log")

    def fill(self) -> None:
        self._limit(max(path.stat().st_size for path in self.journal.iterdir()) + 100)

    def empty(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        (gateway,) = self._children.running("gateway")
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @staticmethod
    def program(data: DataDir, real: str, folder: Path) -> str:
        return real


Disk = TinyFileSystem | LimitedFiles


def _script(path: Path, command: str) -> str:
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o700)
    return str(path)


def namespaces_allowed() -> bool:
    try:
        return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], check=False).returncode == 0
    except OSError:
        return False


DISKS = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(TinyFileSystem, marks=pytest.mark.skipif(not namespaces_allowed(), reason="no mount namespaces")),
        LimitedFiles,
    ],
    ids=["tmpfs", "rlimit"],
)


class System:
    """A server with one endpoint, and the clients and books of a test."""

    def __init__(self, server: Server, data: DataDir, disk: Disk) -> None:
        self.server = server
        self.disk = disk
        self.client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)
        self.journals = Journals(disk.journal)
        self.ledger = Ledger(data)
        self.served: dict[str, int] = {}
        """Output tokens that clients got, by request id."""

    def ask(self, tokens: int = SHORT) -> None:
        """Raises APIStatusError."""
        with self.client.completions.with_streaming_response.create(
            model="e", prompt=[1, 2, 3], max_tokens=tokens, stream=True, extra_body={"ignore_eos": True}
        ) as answer:
            seen = sum(1 for event in answer.parse() if event.choices)
        self.served[answer.headers["x-request-id"]] = seen

    def until_refused(self) -> APIStatusError:
        """What a client is told once the last of the room is gone."""
        refusals: list[APIStatusError] = []

        def refused() -> bool:
            try:
                self.ask()
            except APIStatusError as error:
                refusals.append(error)
            return bool(refusals)

        until(refused, within_s=20, what="a request is refused")
        return refusals[0]

    @contextmanager
    def long_request(self) -> Iterator[None]:
        """One is in mid-stream when the block begins; when it ends, it has been answered as if nothing were."""
        asking = threading.Thread(target=self.ask, args=(LONG,))
        asking.start()
        until(lambda: self.server.endpoint("e")["gauges"]["in_flight"] == 1 or None, within_s=20, what="it is served")
        yield
        asking.join(60)
        assert LONG in self.served.values()

    def problems(self) -> list[str]:
        return list(self.server.get("/api/headrace/v1/status")["problems"])

    def ended(self) -> dict[str, int]:
        """Output tokens by request id, of what has ended in the journal; each once."""
        self.journals.read()
        ends = [end for told in self.journals.requests.values() for end in told.ends]
        assert not any(isinstance(end, Rejected) for end in ends)
        found = {end.rid: end.output_tokens for end in ends if isinstance(end, Settled)}
        assert len(found) == len(ends)
        return found

    def billed(self) -> dict[str, int]:
        """As ``ended``, in the ledger."""
        return {row["rid"]: row["output_tokens"] for row in self.ledger.usage() if row["ended"] == "settled"}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., System]]:
    servers: list[Server] = []

    def start(kind: type[Disk], *flags: str) -> System:
        data = DataDir(tmp_path / "data")
        data.create()
        profile = register_simulated(data.root, "sim", ITERATION, slots=4)
        with monkeypatch.context() as patch:
            patch.setattr(system_server, "HEADRACE", kind.program(data, system_server.HEADRACE, tmp_path))
            servers.append(Server(data.root, *flags))
            servers[-1].start()
        entity: dict[str, Any] = {
            "entity_name": "sim",
            "entity_version": "1",
            "min_provisioned_throughput": profile.chunk,
            "max_provisioned_throughput": profile.chunk,
        }
        servers[-1].call("POST", "/api/2.0/serving-endpoints", {"name": "e", "config": {"served_entities": [entity]}})
        until(lambda: servers[-1].endpoint("e")["chunks_ready"] == 1 or None, within_s=30, what="the replica is ready")
        return System(servers[-1], data, kind(data, servers[-1]))

    yield start
    for server in servers:
        server.stop()


@DISKS
def test_a_full_disk_refuses_what_is_new_loses_nothing_that_runs_and_heals_by_itself(
    start: Callable[..., System], kind: type[Disk]
) -> None:
    system = start(kind)
    system.ask()
    with system.long_request():
        system.disk.fill()
        refusal = system.until_refused()
        assert refusal.status_code == 503
        assert system.disk.said in refusal.message
        assert int(refusal.response.headers["retry-after"]) >= 1
        until(lambda: system.problems() or None, within_s=10, what="status says it")
        assert "usage cannot be recorded, so new requests are refused" in system.problems()[0]
    known = system.ended()
    assert known.items() < system.served.items()  # the long one has ended, and waits for room

    system.disk.empty()
    until(lambda: not system.problems(), within_s=10, what="all is well again, without any request")
    system.ask()
    assert system.ended() == system.served
    until(lambda: system.billed() == system.served, within_s=10, what="the ledger has every request, once")
    assert set(system.journals.requests) == set(system.served)  # what was refused left nothing


@DISKS
def test_where_the_operator_chose_it_requests_are_served_unmetered_and_counted(
    start: Callable[..., System], kind: type[Disk]
) -> None:
    system = start(kind, "--on-journal-failure", "serve")
    system.ask()
    with system.long_request():
        system.disk.fill()

        def unmetered() -> str | None:
            system.ask()
            return next((problem for problem in system.problems() if "so new requests are served unm" in problem), None)

        assert system.disk.said in until(unmetered, within_s=20, what="status says that requests go unmetered")
        for _ in range(5):
            system.ask()
    system.disk.empty()
    until(lambda: "cannot be recorded" not in str(system.problems()), within_s=10, what="records are written again")
    system.ask()

    metered = system.ended()
    assert metered.items() < system.served.items()
    assert LONG in metered.values()  # it was reserved before, so its end was kept
    unrecorded = system.served.keys() - metered.keys()
    assert len(unrecorded) >= 5
    assert set(system.journals.requests) == set(metered)  # no half of a request
    (counted,) = system.problems()
    tokens = SHORT * len(unrecorded)
    assert f"{len(unrecorded)} requests were served unmetered, with {tokens} input and {tokens} output" in counted
    until(lambda: system.billed() == metered, within_s=10, what="the ledger has what was metered")
