"""Servers that answer as a test says, byte by byte; and runs of the load client against them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from headrace.bench.client.merge import Merge
from headrace.bench.client.records import Records
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec, Task
from headrace.bench.client.worker import Worker
from headrace.bench.workload.spec import Amount, Arrivals, ClosedLoop, Content, LoadSpec, Synthetic, Uniform

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Takes a whole request and writes whatever it likes."""


@contextlib.asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a server that hands every request of a connection to ``answer``."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await answer(head + await reader.readexactly(length), writer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
FINISH = b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def token(text: str = " the") -> bytes:
    return b'data: {"choices":[{"index":0,"text":"%b","finish_reason":null}]}\n\n' % text.encode()


def usage(output: int, input: int = 8) -> bytes:
    return b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}\n\n' % (input, output)


def whole(status: str, body: bytes, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        fields,
        len(body),
        body,
    )


GOOD = STREAM + chunk(token() + token()) + chunk(FINISH + usage(2) + DONE) + END


def always(data: bytes, *, then_close: bool = False) -> Answer:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then_close:
            await writer.drain()
            writer.close()

    return answer


def client_spec(url: str, **changes: object) -> ClientSpec:
    """Four requests of one user, unless said otherwise."""
    arrivals: Arrivals = changes.pop("arrivals", ClosedLoop(users=1))  # type: ignore[assignment]
    amount: Amount = changes.pop("amount", Amount(requests=4))  # type: ignore[assignment]
    content: Content = changes.pop("content", Content(force_length=False))  # type: ignore[assignment]
    load = LoadSpec(
        model="m",
        source=Synthetic(input=Uniform(8, 8), output=Uniform(4, 4)),
        content=content,
        arrivals=arrivals,
        amount=amount,
    )
    return ClientSpec(load=load, url=url, **changes)  # type: ignore[arg-type]


async def run(spec: ClientSpec, directory: Path) -> Records:
    """By processes of its own."""
    run = Run(spec, directory)
    await run.start()
    async with asyncio.timeout(60):
        return await run.finish()


async def run_here(spec: ClientSpec, directory: Path) -> Records:
    """By a worker in this process and event loop: the same code, without the time that processes take to start."""
    file = directory / "records.bin"
    worker = Worker(Task(spec=spec, share=0, addresses=("127.0.0.1",), records=str(file), commands=-1))
    worker.start(time.monotonic())
    async with asyncio.timeout(60):
        await worker.course.through.wait()
    report = worker.end()
    merge = Merge([file])
    merge.read()
    return merge.records((report,))
