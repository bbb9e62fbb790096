"""The floor of pacing: a loop that sleeps until a request is due and sends it, and does nothing else.

Answers are left to the kernel until their connection is needed again. ``python timer.py`` reads a ``Plan``.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import sys
import time

import msgspec
import numpy as np
from plan import Plan

CONNECTIONS = 256
"""Used in turn: an answer has as long to arrive as that many requests take."""


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    load, body = plan.load, plan.body()
    assert load.rate is not None
    payload = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nX-Request-ID: %08d\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    connections = collections.deque(socket.create_connection(("127.0.0.1", plan.port)) for _ in range(CONNECTIONS))
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
    planned = []
    began_s = time.monotonic() + 0.05
    for index in range(int(load.rate * load.seconds)):
        due_s = began_s + index / load.rate
        connection = connections[0]
        connections.rotate(-1)
        with contextlib.suppress(BlockingIOError):
            connection.recv(1 << 20)
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        connection.send(payload % index)
        planned.append(int(due_s * 1e9))
    time.sleep(0.5)  # the last answers
    np.savez(plan.file, planned_ns=np.array(planned, np.int64))


if __name__ == "__main__":
    main()
