"""What a load run is told: the load itself, where it goes, and with which key. Goes to the workers over their standard
input."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from headrace.bench.client.records import ProcessReport
from headrace.bench.errors import BenchError
from headrace.bench.workload.spec import LoadSpec

PORTS = {"http": 80, "https": 443}


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a load: all of it, or what had not ended when it was interrupted."""

    firsts: tuple[int, ...] = ()
    """Of each process: the first number that it sends; empty: from the beginning."""
    schedule_s: float = 0.0
    """Where on the schedule it begins: the zero of the run that sends it."""

    def first(self, share: int) -> int:
        return self.firsts[share] if self.firsts else share

    @property
    def begins(self) -> int:
        """The first number of all."""
        return min(self.firsts, default=0)


class ClientSpec(msgspec.Struct, frozen=True, kw_only=True):
    load: LoadSpec
    url: str
    """``http://HOST:PORT`` or ``https://HOST:PORT``, with a path in front of ``/v1`` where the server has one."""
    key: str | None = None
    """Sent as a bearer token."""
    timeout_s: float = 600.0
    """For the whole of an attempt, from its first byte sent."""
    connect_timeout_s: float = 10.0
    """For a connection, TLS included."""
    processes: int = 1
    retries: int = 0
    """How often a request that was turned away (429, 503) or found no connection is sent again. Its latency still
    counts from when it was due."""
    certificate: str | None = None
    """File with the server's own certificate; None: the system's authorities."""
    rest: Rest = Rest()

    def __repr__(self) -> str:
        return f"ClientSpec({self.url!r}, {self.load!r})"  # without the key


class Origin(msgspec.Struct, frozen=True):
    """Where connections go."""

    host: str
    port: int
    secure: bool
    authority: str
    """For the Host field, and for words."""
    base: str
    """Path in front of that of each request."""


def origin(url: str) -> Origin:
    """Raises BenchError where load cannot go there."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BenchError(f"the URL {url!r} cannot be read: {error}") from None
    if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise BenchError(f"cannot put load on {url!r}; expected http://HOST:PORT or https://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Origin(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        secure=parts.scheme == "https",
        authority=host if port is None else f"{host}:{port}",
        base=parts.path.rstrip("/").removesuffix("/v1"),
    )


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker reads from its standard input."""

    spec: ClientSpec
    share: int
    """It sends the numbers ``i % spec.processes == share``."""
    addresses: tuple[str, ...]
    """Of the server; connections take turns."""
    records: str
    """File that it appends its records to."""
    commands: int
    """File descriptor to read commands from; its end is the end of the run."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker says, one line each."""

    state: Literal["ready", "through", "done", "failed"]
    error: str | None = None
    process: ProcessReport | None = None
    """When it is done."""
