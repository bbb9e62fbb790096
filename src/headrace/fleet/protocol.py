"""What travels between the supervisor and those who ask it for child processes.

One JSON document per line over a Unix socket. A request carries ``id`` and gets one ``Reply`` with it; every change
of a child is pushed to every connection as a ``ChildEvent``. The supervisor decides nothing: it starts, stops, lists
and tells.
"""

from __future__ import annotations

from typing import Any

import msgspec


class ChildSpec(msgspec.Struct, frozen=True):
    """A process to start. Secrets go by standard input, never by ``argv`` or environment."""

    token: str
    """Chosen by who asks; names the child for good. A second start with it returns the first child."""
    kind: str
    """``replica``; the supervisor's own are ``gateway`` and ``controller``."""
    name: str
    """For people; also the name of the log file."""
    argv: tuple[str, ...]
    stdin: str = ""
    """Written to the child's standard input, which is then closed."""
    cpus: tuple[int, ...] = ()
    """Cores to pin the child to; empty for any."""
    labels: dict[str, str] = {}
    """Kept and returned as they are, so that who asked finds its own again after a restart. No secrets."""


class Child(msgspec.Struct, frozen=True):
    """A child as the supervisor knows it. Exited children stay listed for a while, with their exit."""

    token: str
    kind: str
    name: str
    pid: int
    cpus: tuple[int, ...]
    started_ms: int
    """Unix time."""
    report: dict[str, Any] | None = None
    """The last JSON object with a ``state`` that the child printed as a line on standard output."""
    reported_ms: int | None = None
    exited_ms: int | None = None
    exit_code: int | None = None
    """Negative: ended by that signal."""
    tail: str = ""
    """Last lines of its log, once it has exited, and in the answer to ``Look``."""
    labels: dict[str, str] = {}
    """As they were given."""


class Start(msgspec.Struct, frozen=True, tag="start", tag_field="op"):
    id: int
    spec: ChildSpec


class Stop(msgspec.Struct, frozen=True, tag="stop", tag_field="op"):
    """SIGTERM, then SIGKILL after the grace time."""

    id: int
    token: str
    grace_s: float = 5.0


class Look(msgspec.Struct, frozen=True, tag="look", tag_field="op"):
    """The child with the last lines of its log, also while it runs."""

    id: int
    token: str


class List(msgspec.Struct, frozen=True, tag="list", tag_field="op"):
    id: int


Ask = Start | Stop | Look | List


class Reply(msgspec.Struct, frozen=True, tag="reply", tag_field="op"):
    id: int
    error: str | None = None
    children: tuple[Child, ...] = ()
    """The child that was asked for, or all of them."""


class ChildEvent(msgspec.Struct, frozen=True, tag="child", tag_field="op"):
    """A child was started, has reported, or has exited."""

    child: Child


FromSupervisor = Reply | ChildEvent
