"""A whole gateway without sockets: a test decides what each read from client and engine brings."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import h11
from gateway_rig import KEYS, QUERY_KEY, RAW, Answer, FakeEngine, endpoint_view

from headrace.gateway.config import GatewayConfig
from headrace.gateway.main import Gateway
from headrace.gateway.snapshot import Snapshot, Traits
from headrace.journal.reader import Position, read, writers
from headrace.journal.records import Record
from headrace.wire.client_connection import ClientConnection
from headrace.wire.server_connection import ServerConnection


class Transport:
    """As much of one as a connection uses; keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Wires:
    """One request at a time, to one replica."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self._gateway = gateway
        self._folder = folder
        (entity,) = gateway._live.endpoints["smollm2"].entities
        self._replica = entity.replicas["replica-0"]
        self.client = Transport()
        self.engine = Transport()
        self._read_to = Position()
        self._from_client: ServerConnection
        self._from_engine: ClientConnection

    def ask(self, path: str, body: Any) -> bytes:
        """Send a request on new connections; returns the body that the engine gets."""
        self.client, self.engine = Transport(), Transport()
        pool = self._replica._client
        self._from_engine = ClientConnection(pool)
        self._from_engine.connection_made(cast(Any, self.engine))
        self._from_engine.idle_since = time.monotonic()
        pool._idle[:] = [self._from_engine]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {QUERY_KEY}\r\n"
        self._from_client = ServerConnection(self._gateway._server)
        self._from_client.connection_made(cast(Any, self.client))
        self._from_client.data_received(b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(data), data))
        return bytes(self.engine.written).partition(b"\r\n\r\n")[2]

    def say(self, data: bytes) -> None:
        """One read from the engine."""
        if not self.engine.closed:
            self._from_engine.data_received(data)

    def dies(self) -> None:
        """The engine's connection ends."""
        self._from_engine.connection_lost(None)

    def answer(self) -> Answer:
        """What the client got so far, as a strict parser reads it. Raises h11.RemoteProtocolError."""
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        if self.client.written:
            connection.receive_data(bytes(self.client.written))
        answer = Answer(0, {}, b"", complete=False)
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                answer.complete = True
                break
        return answer

    def leave(self) -> None:
        """Both connections end."""
        self._from_client.connection_lost(None)
        self._from_engine.connection_lost(None)

    def recorded(self) -> list[Record]:
        """What has come into the journal since this was asked last."""
        (writer,) = writers(self._folder)
        batch = read(self._folder, writer, self._read_to)
        self._read_to = batch.next
        return [entry.record for entry in batch.entries]


@contextmanager
def wires(folder: Path, traits: Traits = RAW, **endpoint: Any) -> Iterator[Wires]:
    """In the running event loop; of a range that is never in the way."""
    config = GatewayConfig(
        gateway_id="gateway-1",
        controller_socket=str(folder / "controller.sock"),
        link_socket=str(folder / "link.sock"),
        journal_dir=str(folder),
        log_level="WARNING",
    )
    gateway = Gateway(config)
    endpoint = {"chunk": 1e9, "context": 1_000_000, **endpoint}
    replica = FakeEngine("replica-0", traits).view(url="http://127.0.0.1:9")
    gateway._live.apply(
        Snapshot(version=1, restored=True, endpoints=(endpoint_view(**endpoint),), replicas=(replica,), keys=KEYS)
    )
    try:
        yield Wires(gateway, folder)
    finally:
        gateway._app.close()
        gateway._outbox.close()
