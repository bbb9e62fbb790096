"""Small processes for tests of the supervisor: a server with toy services, and children that behave in chosen ways.

Run as ``python fleet_toys.py ROLE ...``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from headrace.fleet.listener import StartError
from headrace.fleet.supervisor import Service, Supervisor, SupervisorConfig
from headrace.paths import DataDir


def argv(role: str, *more: str) -> tuple[str, ...]:
    """Command of a child with that role."""
    return (sys.executable, __file__, role, *more)


def say(**report: object) -> None:
    print(json.dumps(report), flush=True)


def serve(root: str, port: str, gateway: str = "gateway", controller: str = "controller") -> int:
    """A supervisor; prints its URL once it listens."""
    config = SupervisorConfig(
        data=DataDir(Path(root)),
        host="127.0.0.1",
        port=int(port),
        services=(
            Service(
                "gateway",
                argv(gateway),
                lambda token, fd: json.dumps({"token": token, "fd": fd}),
                listens=True,
                successor=lambda token, fd: json.dumps({"token": token, "fd": fd, "successor": True}),
                hand_over_s=0.2,
            ),
            Service("controller", argv(controller), lambda token, fd: json.dumps({"token": token})),
        ),
        listening=lambda url: say(url=url),
    )
    try:
        Supervisor(config).run()
    except StartError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def gateway() -> int:
    """Answers every connection with its own process id."""
    given = json.load(sys.stdin)
    listening = socket.socket(fileno=given["fd"])
    listening.setblocking(True)
    say(state="ready", token=given["token"])
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())


def fickle() -> int:
    """A gateway whose successors fail."""
    given = json.load(sys.stdin)
    if given.get("successor"):
        print("no snapshot", file=sys.stderr)
        return 1
    say(state="ready", token=given["token"])
    signal.pause()
    return 0


def lingers() -> int:
    """A gateway with a request that does not end when it hands over."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    say(state="ready", token=json.load(sys.stdin)["token"])
    signal.pause()
    return 0


def controller() -> int:
    say(state="ready", token=json.load(sys.stdin)["token"])
    signal.pause()
    return 0


def dies() -> int:
    """A service that is broken from the start."""
    return 7


def replica() -> int:
    """Says what it was given, and where it may run."""
    say(state="loading")
    say(state="ready", url="http://127.0.0.1:1", given=sys.stdin.read(), cpus=sorted(os.sched_getaffinity(0)))
    signal.pause()
    return 0


def polite() -> int:
    """Ends well when asked."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say(state="ready")
    while True:
        signal.pause()


def stubborn() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(state="ready")
    while True:
        signal.pause()


def forks() -> int:
    """Has a child of its own that would outlive it, and that holds its pipes open."""
    child = subprocess.Popen(argv("stubborn"))
    say(state="ready", grandchild=child.pid)
    signal.pause()
    return 0


def chatty() -> int:
    """Prints what is no report, and much on standard error."""
    sys.stdout.buffer.write(b'\xff\xfe not JSON\n[1, 2]\n\n{broken\n{"no": "state"}\n')
    sys.stdout.flush()
    for number in range(400):
        print(f"line {number}", file=sys.stderr)
    say(state="ready")
    signal.pause()
    return 0


def fails() -> int:
    print("the reason", file=sys.stderr)
    say(state="failed", error="no such weights")
    return 1


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](*sys.argv[2:]))
