"""A gateway between a fake controller and fake engines, all with real sockets in one event loop.

The fake engine speaks both dialects: events as well-behaved engines send them, and those of an engine that reports
progress, its events as the embedded one sends them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headrace.gateway.config import GatewayConfig
from headrace.gateway.main import Gateway
from headrace.gateway.snapshot import (
    Ack,
    EndpointView,
    EntityView,
    FromGateway,
    Hello,
    KeyView,
    ReplicaView,
    Snapshot,
    Tick,
    Traits,
    WorkWeights,
)
from headrace.journal.reader import Position, read, writers
from headrace.journal.records import Record
from headrace.wire.server import Exchange, Server

ADMIN_KEY = "hr-00000001.admin-secret"
QUERY_KEY = "hr-00000002.query-secret"
PRIORITY_KEY = "hr-00000003.priority-secret"
RAW = Traits()
PROGRESS = Traits(stream_upstream=True, reuse_after_stream=False)
WITHIN_S = 20.0

SSE = (b"content-type", b"text/event-stream")
JSON = (b"content-type", b"application/json")


def key_view(key: str, role: str = "query", tiers: tuple[str, ...] = ("default", "flex")) -> KeyView:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return KeyView(id=key.split(".", maxsplit=1)[0][3:], digest=digest, role=role, tiers=tiers)


KEYS = (
    key_view(ADMIN_KEY, "admin"),
    key_view(QUERY_KEY),
    key_view(PRIORITY_KEY, tiers=("priority", "default")),
)


def endpoint_view(name: str = "smollm2", **changes: Any) -> EndpointView:
    entity = EntityView(
        id=f"entity-of-{name}",
        name=f"{name}-1",
        model="smollm2-135m",
        config_version=3,
        chunk=1000.0,
        min_chunks=1,
        max_chunks=4,
        weights=WorkWeights(w_in=1.0, w_out=1.0, w_pp=0.0, w_dd=0.0, w_c=0.1),
        context=4096,
        slots=2,
        default_max_tokens=128,
    )
    own = {name: changes.pop(name) for name in list(changes) if name in EntityView.__struct_fields__}
    return EndpointView(id=f"id-of-{name}", name=name, entities=(msgspec.structs.replace(entity, **own),), **changes)


Behaviour = Callable[["FakeEngine", Exchange, dict[str, Any]], Awaitable[None]]


class FakeEngine:
    """Answers every request by ``behave``; tells what it was asked."""

    def __init__(self, name: str, traits: Traits) -> None:
        self.name = name
        self.traits = traits
        self.behave: Behaviour = answer("Hello", " world")
        self.bodies: list[dict[str, Any]] = []
        self.raw_bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.arrived = asyncio.Condition()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        """What a behaviour that holds waits for."""
        self.url = ""
        self._connections: set[object] = set()

    @property
    def connections(self) -> int:
        """Different ones that requests came on."""
        return len(self._connections)

    async def start(self) -> None:
        self._server = Server(self._handle)
        await self._server.listen(port=0)
        self.url = f"http://127.0.0.1:{self._server.port}"

    async def stop(self) -> None:
        await self._server.close()

    async def asked(self, count: int = 1) -> None:
        """Until that many requests have arrived."""
        async with asyncio.timeout(WITHIN_S), self.arrived:
            await self.arrived.wait_for(lambda: len(self.bodies) >= count)

    def view(self, **changes: Any) -> ReplicaView:
        values = {
            "id": self.name,
            "entity": "entity-of-smollm2",
            "url": self.url,
            "secret": f"secret-of-{self.name}",
            "slots": 2,
            "draining": False,
            "traits": self.traits,
        }
        return ReplicaView(**{**values, **changes})

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        body = json.loads(request.body)
        async with self.arrived:
            self._connections.add(exchange._connection)
            self.bodies.append(body)
            self.raw_bodies.append(request.body)
            self.headers.append({name.decode(): value.decode() for name, value in request.headers})
            self.paths.append(request.target)
            self.arrived.notify_all()
        exchange.on_client_gone(self.cancelled.set)
        await self.behave(self, exchange, body)


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def event(members: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(members, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@dataclass
class Script:
    """One answer of an engine, in pieces."""

    pieces: tuple[str, ...]
    prompt_tokens: int = 11
    cached: int = 0
    finish: str = "stop"

    def chat(self, body: dict[str, Any]) -> bool:
        return "messages" in body

    def frame(self, body: dict[str, Any], *, stream: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if stream else "chat.completion") if self.chat(body) else "text_completion"
        return {"id": "cmpl-1", "object": kind, "created": 1700000000, "model": body["model"]}

    def piece(self, body: dict[str, Any], text: str | None, finish: str | None = None) -> dict[str, Any]:
        if self.chat(body):
            delta = {} if text is None else {"content": text}
            choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        else:
            choice = {"index": 0, "text": text or "", "logprobs": None, "finish_reason": finish}
        return {"choices": [choice], **self.frame(body, stream=True)}

    @property
    def usage(self) -> dict[str, Any]:
        return usage(self.prompt_tokens, len(self.pieces), self.cached)

    def whole(self, body: dict[str, Any]) -> bytes:
        text = "".join(self.pieces)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.finish, "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat(body) else {"text": text}
        return json.dumps({**self.frame(body, stream=False), "choices": [choice], "usage": self.usage}).encode()

    def end(self, body: dict[str, Any]) -> list[bytes]:
        """Of a stream of a well-behaved engine."""
        events = [event(self.piece(body, None, self.finish))]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(event({"choices": [], **self.frame(body, stream=True), "usage": self.usage}))
        return [*events, DONE]

    def progress(self, body: dict[str, Any], processed: int) -> bytes:
        prefill = {"total": self.prompt_tokens, "cache": self.cached, "processed": processed, "time_ms": 1}
        return event({**self.piece(body, ""), "prompt_progress": prefill})

    def timed(self, members: dict[str, Any], predicted: int) -> bytes:
        timings = {"cache_n": self.cached, "prompt_n": self.prompt_tokens - self.cached, "predicted_n": predicted}
        return event({**members, "timings": timings})

    def progress_end(self, body: dict[str, Any]) -> list[bytes]:
        """Of a stream of an engine that reports progress: a completion carries the usage on its last choice."""
        last = self.piece(body, None, self.finish)
        if not self.chat(body):
            return [self.timed({**last, "usage": self.usage}, len(self.pieces)), DONE]
        told = {"choices": [], **self.frame(body, stream=True), "usage": self.usage}
        return [event(last), self.timed(told, len(self.pieces)), DONE]


def answer(*pieces: str, hold_after: int | None = None, die_after: int | None = None, **script: Any) -> Behaviour:
    """Say the pieces, one token each; hold or die when so many are said (0: before the first byte of content)."""
    told = Script(pieces, **script)

    async def stop_here(engine: FakeEngine, exchange: Exchange, said: int) -> None:
        if die_after == said:
            exchange.abort()
        if hold_after == said and not exchange.finished:
            await engine.release.wait()

    async def behave(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        progress = engine.traits.stream_upstream
        if not body.get("stream"):
            await stop_here(engine, exchange, 0)
            exchange.respond(200, [JSON], told.whole(body))
            return
        exchange.start(200, [SSE])
        if progress:
            exchange.write(told.progress(body, told.cached))
        await stop_here(engine, exchange, 0)
        if progress:
            exchange.write(told.progress(body, told.prompt_tokens))
        if told.chat(body):
            role = told.piece(body, None)
            role["choices"][0]["delta"] = {"role": "assistant", "content": None if progress else ""}
            exchange.write(event(role))
        for said, text in enumerate(pieces, start=1):
            piece = told.piece(body, text)
            exchange.write(told.timed(piece, said) if progress else event(piece))
            await stop_here(engine, exchange, said)
        exchange.write(b"".join(told.progress_end(body) if progress else told.end(body)))
        exchange.finish()

    return behave


def embed(vector: list[float], prompt_tokens: int) -> Behaviour:
    """A vector for each input, in the form that was asked for."""

    async def behave(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        found = body["input"]
        count = 1 if isinstance(found, str) or isinstance(found[0], int) else len(found)
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        told = packed if body.get("encoding_format") == "base64" else vector
        data = [{"object": "embedding", "index": index, "embedding": told} for index in range(count)]
        counts = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
        members = {"object": "list", "model": body["model"], "usage": counts, "data": data}
        exchange.respond(200, [JSON], json.dumps(members).encode())

    return behave


def fail(status: int, members: dict[str, Any]) -> Behaviour:
    async def behave(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.respond(status, [JSON], json.dumps(members).encode())

    return behave


async def silence(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
    """Take the request and say nothing, not even a head."""
    await engine.release.wait()


async def vanish(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
    """Die as soon as the request is there."""
    exchange.abort()


class FakeController:
    """Listens for gateways on the link, and for what they hand on by HTTP."""

    def __init__(self, folder: Path) -> None:
        self.link_path = folder / "link.sock"
        self.http_path = folder / "controller.sock"
        self.snapshot = Snapshot(version=0, restored=True)
        self.hellos: list[Hello] = []
        self.acks: list[int] = []
        self.ticks: list[Tick] = []
        self.heard = asyncio.Condition()
        self.proxied: Behaviour | Callable[[Exchange], Awaitable[None]] | None = None
        self._decoder: msgspec.json.Decoder[FromGateway] = msgspec.json.Decoder(FromGateway)
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._listener = await asyncio.start_unix_server(self._serve, self.link_path)

    async def stop(self) -> None:
        self._listener.close()
        for writer in self._writers:
            writer.close()

    async def push(self, snapshot: Snapshot) -> None:
        """Send it as the next version; returns when the gateway decides by it."""
        self.snapshot = msgspec.structs.replace(snapshot, version=self.snapshot.version + 1)
        for writer in self._writers:
            writer.write(msgspec.json.encode(self.snapshot) + b"\n")
        await self.until(lambda: self.snapshot.version in self.acks)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S), self.heard:
            await self.heard.wait_for(condition)

    async def tick(self, condition: Callable[[Tick], bool]) -> Tick:
        """The first tick from now on that is so."""
        begin = len(self.ticks)
        found: list[Tick] = []

        def seen() -> bool:
            found.extend(tick for tick in self.ticks[begin:] if condition(tick))
            return bool(found)

        await self.until(seen)
        return found[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while line := await reader.readline():
                message = self._decoder.decode(line)
                async with self.heard:
                    if isinstance(message, Hello):
                        self.hellos.append(message)
                        if self.snapshot.version:
                            writer.write(msgspec.json.encode(self.snapshot) + b"\n")
                    elif isinstance(message, Ack):
                        self.acks.append(message.version)
                    else:
                        self.ticks.append(message)
                    self.heard.notify_all()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.remove(writer)
            writer.close()


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True
    """The body has come to its end, and not the connection before it."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Events of a stream, decoded; the end mark as it is."""
        parts = [part.removeprefix(b"data: ") for part in self.body.split(b"\n\n") if part]
        return [part.decode() if part == b"[DONE]" else json.loads(part) for part in parts]


@dataclass
class Rig:
    controller: FakeController
    config: GatewayConfig
    gateway: Gateway
    port: int
    engines: list[FakeEngine]
    folder: Path
    endpoint: EndpointView = field(default_factory=endpoint_view)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def publish(self, *, replicas: list[ReplicaView] | None = None, **changes: Any) -> None:
        """Publish the endpoint with all engines, or with these replicas, and all keys."""
        views = [engine.view() for engine in self.engines] if replicas is None else replicas
        snapshot = Snapshot(version=0, restored=True, endpoints=(self.endpoint,), replicas=tuple(views), keys=KEYS)
        await self.controller.push(msgspec.structs.replace(snapshot, **changes))

    async def connect(self) -> RawClient:
        return RawClient(*await asyncio.open_connection("127.0.0.1", self.port))

    async def post(self, path: str, body: Any, *, key: str | None = QUERY_KEY, **headers: str) -> Answer:
        """One request on a connection of its own."""
        client = await self.connect()
        try:
            await client.send("POST", path, body, key=key, **headers)
            return await client.answer()
        finally:
            client.close()

    async def get(self, path: str, *, key: str | None = QUERY_KEY) -> Answer:
        client = await self.connect()
        try:
            await client.send("GET", path, None, key=key)
            return await client.answer()
        finally:
            client.close()

    async def chat(self, **members: Any) -> Answer:
        return await self.post("/v1/chat/completions", chat_body(**members))

    def journal(self) -> list[Record]:
        (writer,) = writers(self.folder)
        batch = read(self.folder, writer, Position())
        assert batch.corrupt == ()
        return [entry.record for entry in batch.entries]

    def kinds(self) -> list[str]:
        return [type(record).__name__ for record in self.journal()]

    async def settled(self, count: int = 1) -> list[Record]:
        """The journal, once so many requests have ended in it."""
        async with asyncio.timeout(WITHIN_S):
            while self.kinds().count("Settled") < count:
                await self.controller.tick(lambda tick: True)
        return self.journal()


def chat_body(**members: Any) -> dict[str, Any]:
    return {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], **members}


class RawClient:
    """HTTP as bytes, so that a test can stop reading, leave, or look at the framing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, method: str, path: str, body: Any, *, key: str | None = QUERY_KEY, **headers: str) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: test"]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        if body is not None:
            lines += [f"Content-Length: {len(data)}", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(WITHIN_S):
            block = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = block.decode().rstrip().split("\r\n")
        fields = (line.split(": ", maxsplit=1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in fields}

    async def until(self, mark: bytes) -> bytes:
        """Raw bytes of the body up to this mark."""
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.readuntil(mark)

    async def answer(self) -> Answer:
        """The whole answer; chunked coding removed."""
        status, headers = await self.head()
        async with asyncio.timeout(WITHIN_S):
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline() or b"-1", 16):
                    if size < 0:
                        return Answer(status, headers, body, complete=False)
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def rig(*traits: Traits, **config: Any) -> AsyncIterator[Rig]:
    """A gateway with one engine for each of the traits, all published."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as name:
        folder = Path(name)
        controller = FakeController(folder)
        await controller.start()
        engines = [FakeEngine(f"replica-{index}", found) for index, found in enumerate(traits)]
        for engine in engines:
            await engine.start()
        settings = GatewayConfig(
            **{
                "gateway_id": "gateway-1",
                "controller_socket": str(controller.http_path),
                "link_socket": str(controller.link_path),
                "journal_dir": str(folder),
                "port": 0,
                "drain_s": 5.0,
                **config,
            }
        )
        gateway = Gateway(settings)
        port = await gateway.start()
        found = Rig(controller, settings, gateway, port, engines, folder)
        try:
            await controller.until(lambda: bool(controller.hellos))
            await found.publish()
            yield found
        finally:
            for engine in engines:
                engine.release.set()
                await engine.stop()
            await gateway.drain()
            await controller.stop()
