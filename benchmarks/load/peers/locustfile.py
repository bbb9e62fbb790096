"""What Locust is asked to do. Of an answer it knows the time of the headers alone, so the task takes the time of the
first event and the tokens itself, and parses no more than that: the last event with the usage.

A ``Plan`` is in the environment as PLAN.
"""

from __future__ import annotations

import itertools
import json
import os
import time

import gevent
from locust import FastHttpUser, events, task

PLAN = json.loads(os.environ["PLAN"])
RATE = PLAN["load"]["rate"]
USERS = int(os.environ["USERS"])
BEGAN_S = time.monotonic() + 1.0
"""When the first user is due: all have started then."""
BODY = os.environ["BODY"].encode()
HEADERS = {"Content-Type": "application/json"}
told: list[tuple[str, float, int]] = []
"""Id of the answer, seconds to the first event, tokens."""
users = itertools.count()


class Reader(FastHttpUser):
    host = f"http://127.0.0.1:{PLAN['port']}"
    concurrency = 1  # connections of this user
    due_s = 0.0

    def on_start(self) -> None:
        if RATE is not None:
            self.due_s = BEGAN_S + next(users) / RATE
            gevent.sleep(max(0.0, self.due_s - time.monotonic()))

    def wait_time(self) -> float:
        """Each user in its own time slot; with constant_throughput, users who start together send together for ever."""
        if RATE is None:
            return 0.0
        self.due_s += USERS / RATE
        return max(0.0, self.due_s - time.monotonic())

    @task
    def stream(self) -> None:
        began = time.perf_counter()
        with self.client.post(
            "/v1/chat/completions", data=BODY, headers=HEADERS, stream=True, catch_response=True
        ) as response:
            readline = response.stream.readline  # read(n) would wait for n bytes
            first = readline(b"\n\n")
            ttft_s = time.perf_counter() - began
            if not first.startswith(b"data: {"):
                response.failure("no event")
                return
            tokens = 0
            while line := readline(b"\n\n"):
                if b'"usage":' in line:
                    tokens = json.loads(line[6:])["usage"]["completion_tokens"]
            told.append((response.headers["x-request-id"], ttft_s, tokens))


@events.test_stop.add_listener
def write(**_: object) -> None:
    with open(PLAN["file"], "w", encoding="utf-8") as file:
        json.dump(told, file)
