"""What makes a server the only one: the lock on its data directory, and its listening socket."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

BACKLOG = 2048


class StartError(Exception):
    """The server cannot start; the message says what is in the way and what to do."""


def lock(path: Path) -> int:
    """File descriptor that holds the lock until it is closed, or the process ends. Raises StartError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot open {path}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise StartError(
            f"a server already runs on this data directory (process {holder}, lock {path}); stop it first, or start "
            "this one with another --data-dir"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises StartError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StartError(f"{host!r} is not an address to listen on: {error.strerror}") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            reason = "it is in use; stop what listens there, or choose another --port"
        elif error.errno == errno.EACCES:
            reason = "not permitted; choose a --port of 1024 or above"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = "this machine has no such address; choose another --host"
        else:
            reason = error.strerror or str(error)
        raise StartError(f"cannot listen on {host} port {port}: {reason}") from None
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket, host: str, scheme: str = "http") -> str:
    """Base URL for a client on this machine."""
    port = listening.getsockname()[1]
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
