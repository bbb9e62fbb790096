"""An OpenAI-compatible server for tests of commands, in a thread of its own: it answers as the test says."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Is given the body of a request for tokens, and writes whatever it likes."""

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"text":" the","delta":{"content":" the"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"text":"","delta":{},"finish_reason":"length"}]}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: str, document: object, fields: bytes = b"") -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n".encode()
    return head + fields + b"\r\n" + body


def told_usage(input_tokens: int, output_tokens: int) -> bytes:
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


def tokens_of(body: bytes) -> int:
    """In a prompt of ids, or words of prose."""
    asked = json.loads(body)
    prompt = asked["prompt"] if "prompt" in asked else " ".join(each["content"] for each in asked["messages"])
    return len(prompt) if isinstance(prompt, list) else len(prompt.split())


async def complete(body: bytes, writer: asyncio.StreamWriter) -> None:
    """As a server should: what was asked for, event by event, with true usage."""
    asked = json.loads(body)
    output = asked.get("max_tokens") or 2
    if not asked.get("stream"):
        usage = {"prompt_tokens": tokens_of(body), "completion_tokens": output}
        writer.write(whole("200 OK", {"choices": [{"text": " the", "finish_reason": "length"}], "usage": usage}))
        return
    writer.write(STREAM)
    for _ in range(output):
        writer.write(chunk(TOKEN))
        await asyncio.sleep(0.001)
    writer.write(chunk(FINISH + told_usage(tokens_of(body), output) + DONE) + END)


def always(data: bytes, *, then_close: bool = False) -> Answer:
    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)  # at once, users would come back so fast that the client is the bottleneck
        writer.write(data)
        if then_close:
            await writer.drain()
            writer.close()

    return answer


class OpenAi:
    """Serves on a free port inside a ``with``. Paths other than those of the API are 404."""

    def __init__(
        self,
        answer: Answer = complete,
        *,
        models: tuple[str, ...] = ("m",),
        owned_by: str = "somebody",
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        silent: tuple[str, ...] = (),
    ) -> None:
        """``key``: without it everything is 401. ``silent``: paths that are never answered."""
        self._answer, self._models, self._key, self._tls, self._silent = answer, models, key, tls, silent
        self._owned_by = owned_by
        self.asked: list[tuple[str, bytes]] = []
        """Path and body of every request for tokens."""
        self.answered = threading.Semaphore(0)
        """Released once for every answer that was written."""
        self.reached = threading.Event()
        """Set by a request for a silent path."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.url = ""

    def __enter__(self) -> OpenAi:
        self._thread.start()
        opening = asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls, backlog=1000)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _listed(self) -> list[dict[str, str]]:
        return [{"id": model, "owned_by": self._owned_by} for model in self._models]

    async def _close(self) -> None:
        self._server.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                lower = head.lower()
                length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length" in lower else 0
                await self._serve(head, await reader.readexactly(length), writer)
                await writer.drain()
                if b"connection: close" in lower:
                    break
        writer.close()

    async def _serve(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.decode().split(" ", 2)
        if path in self._silent:
            self.reached.set()
            await asyncio.Event().wait()
        if self._key is not None and f"bearer {self._key}\r\n".lower() not in head.decode().lower():
            writer.write(whole("401 Unauthorized", {"error": {"message": "no such key"}}))
        elif path.endswith("/models"):
            writer.write(whole("200 OK", {"object": "list", "data": self._listed()}))
        elif method == "POST" and path.endswith(("/completions", "/invocations")):
            self.asked.append((path, body))
            await self._answer(body, writer)
            self.answered.release()
        else:
            writer.write(whole("404 Not Found", {"error": {"message": f"nothing at {path}"}}))
