"""Clients that ask one endpoint again and again without a retry, and remember how each request went."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from system_server import Server


@dataclass
class Asked:
    """One request, as its client saw it. Times are ``time.monotonic()``."""

    stream: bool
    began: float
    bytes: int = 0
    """Of the answer's body."""
    ended: float | None = None
    failure: str = ""
    """Empty where the answer came whole."""
    entity: str = ""
    """Name of the served entity that answered."""


class Load:
    """``clients`` threads, half of which stream; as a context it asks until its end."""

    def __init__(self, server: Server, endpoint: str, *, clients: int, max_tokens: int) -> None:
        self._address = urlsplit(server.url).netloc
        self._headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        self._endpoint = endpoint
        self._max_tokens = max_tokens
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        self.asked: list[Asked] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def streaming(self) -> list[Asked]:
        """Streams in flight of which a part has come."""
        return [one for one in list(self.asked) if one.stream and one.ended is None and one.bytes]

    def answered_since(self, began: float) -> int:
        """Requests that began later and were answered whole."""
        return sum(one.began > began and one.ended is not None and not one.failure for one in list(self.asked))

    def failed(self) -> list[Asked]:
        return [one for one in self.asked if one.failure]

    def _run(self, number: int) -> None:
        while not self._stopping.is_set():
            one = Asked(stream=number % 2 == 0, began=time.monotonic())
            self.asked.append(one)
            try:
                self._ask(one, number)
            except (OSError, http.client.HTTPException) as error:
                one.failure = f"{type(error).__name__}: {error}"
            one.ended = time.monotonic()

    def _ask(self, one: Asked, number: int) -> None:
        prompt, limit = [number + 7] * 16, self._max_tokens
        body = {"model": self._endpoint, "prompt": prompt, "max_tokens": limit, "stream": one.stream}
        connection = http.client.HTTPConnection(self._address, timeout=120)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body | {"ignore_eos": True}), self._headers)
            answer, last = connection.getresponse(), b""
            one.entity = answer.getheader("served-model-name", "")
            while piece := answer.read1(65536):
                one.bytes += len(piece)
                last = (last + piece)[-4096:]
            whole = b"data: [DONE]" in last and b'"error"' not in last if one.stream else b'"usage"' in last
            if answer.status != 200 or not whole:
                one.failure = f"{answer.status}: {last[-300:].decode(errors='replace')}"
        finally:
            connection.close()
