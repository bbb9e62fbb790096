"""The simulated server's process: started, told what to answer, and asked what it knows."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

import msgspec
from answers import Answers
from process import Child
from truth import Counts, Truth

HERE = Path(__file__).parent
READY_S = 30.0
TIMEOUT_S = 30.0


class TruthServer:
    """The server's process."""

    def __init__(self) -> None:
        self.port = 0

    async def start(self, folder: Path, cores: tuple[int, ...]) -> None:
        """Raises Failed."""
        self.child = Child([sys.executable, str(HERE / "truth_server.py")], log=folder / "server.log", cores=cores)
        self.port = int(await self.child.line(READY_S))

    async def stop(self) -> None:
        await self.child.stop()

    def begin(self, answers: Answers) -> None:
        """Forget what was; answer like this from now on."""
        self._ask("/truth/begin", msgspec.json.encode(answers))

    def counts(self) -> Counts:
        return msgspec.json.decode(self._ask("/truth/counts"), type=Counts)

    def end(self, file: Path) -> Truth:
        """What was recorded since ``begin``; written to ``file`` on the way."""
        self._ask("/truth/end", msgspec.json.encode(str(file)))
        return Truth.load(file)

    def _ask(self, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", path, body)
            return connection.getresponse().read()
        finally:
            connection.close()
