"""A controller's API as commands see it: JSON answers by path, each path's in turn, the last of them for good."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any


class ToyApi(http.server.ThreadingHTTPServer):
    """Serves on a free port inside a ``with``; 404 for a path that it has no answer for."""

    def __init__(self, answers: dict[str, list[Any]], *, replies: dict[str, Any] | None = None) -> None:
        """``replies``: to what is sent, by path; else an empty object."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = {path: list(told) for path, told in answers.items()}
        self.replies = replies or {}
        self.bodies: list[Any] = []
        """What was sent to it, in order."""
        self.sent_to: list[tuple[str, str]] = []
        """By which method and to which path, each of them."""
        self.asked: list[str] = []
        """Paths with their queries, of what was only read."""
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> ToyApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def versions_of(model: str, *versions: str) -> dict[str, list[Any]]:
    """What is answered to who asks for the versions of a model."""
    return {f"/api/headrace/v1/models/{model}/versions": [{"name": model, "versions": list(versions)}]}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ToyApi

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        told = self.server.answers.get(self.path.partition("?")[0])
        answer: Any = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"nothing at {self.path}"}
        if told:
            answer = told.pop(0) if len(told) > 1 else told[0]
        self._answer(200 if told else 404, answer)

    def do_POST(self) -> None:
        self.server.sent_to.append((self.command, self.path))
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(200, self.server.replies.get(self.path.partition("?")[0], {}))

    do_PUT = do_PATCH = do_POST
    do_DELETE = do_GET

    def _answer(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
