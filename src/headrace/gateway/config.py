"""What a gateway is told at its start: one JSON document on standard input."""

from __future__ import annotations

from typing import Annotated

import msgspec

from headrace.wire.limits import Limits

_WIRE = Limits()

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Bytes = Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)]


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client may do: the table ``limits`` of ``headrace.toml``. In brackets: the answer beyond it."""

    head_bytes: Bytes = _WIRE.head_bytes
    """Request line and header fields (431)."""
    body_bytes: Bytes = _WIRE.body_bytes
    """Of a request, transfer coding removed (413)."""
    handshake_timeout_s: Seconds = _WIRE.handshake_timeout_s
    """From a connection to the end of its TLS handshake (closed)."""
    head_timeout_s: Seconds = _WIRE.head_timeout_s
    """From the first byte of a request to the end of its head (408)."""
    body_timeout_s: Seconds = _WIRE.body_timeout_s
    """From the end of the head to the end of the body (408)."""
    idle_timeout_s: Seconds = _WIRE.idle_timeout_s
    """Of a connection without a request (closed)."""
    stall_timeout_s: Seconds = _WIRE.stall_timeout_s
    """For a client to read some of what waits for it (closed, and its request cancelled)."""
    total_timeout_s: Seconds = 297.0
    """Of one request to an endpoint, from its arrival (504); below the 300 s after which clients and balancers give up
    by themselves."""
    connections: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = _WIRE.connections
    """Open at once (503)."""
    write_buffer_bytes: Bytes = _WIRE.write_buffer_bytes
    """Of an answer that its client does not read fast enough, before the engine's side is paused."""

    @property
    def wire(self) -> Limits:
        """What the HTTP server holds clients to."""
        return Limits(
            head_bytes=self.head_bytes,
            body_bytes=self.body_bytes,
            handshake_timeout_s=self.handshake_timeout_s,
            head_timeout_s=self.head_timeout_s,
            body_timeout_s=self.body_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            stall_timeout_s=self.stall_timeout_s,
            connections=self.connections,
            write_buffer_bytes=self.write_buffer_bytes,
        )


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths are absolute."""

    gateway_id: str
    """Names this life of the process: its journal and its connection to the controller."""
    controller_socket: str
    """HTTP, for every path that is not the data plane."""
    link_socket: str
    """Snapshots down; ticks and acknowledgements up."""
    journal_dir: str
    listen_fd: int | None = None
    """A listening socket, inherited; else ``host`` and ``port``."""
    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: str | None = None
    """PEM file; with ``tls_key``, or neither."""
    tls_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    """Whose pages may call the data plane; ``*`` for any."""
    limits: LimitsConfig = LimitsConfig()
    log_level: str = "INFO"
    first_snapshot_s: float = 0.0
    """How long to wait for a first snapshot before it listens. Connections wait in the socket's queue meanwhile, where
    a gateway that knows no keys would have to refuse them."""
    takes_over: bool = False
    """Another gateway serves on the socket: without a first snapshot it ends, since the other knows more."""
    drain_s: float = 20.0
    """After SIGTERM: how long answers in flight may take to end."""
    sse_comment_s: float | None = None
    """Silence after which a stream on the OpenAI paths gets a comment; None for never."""
    first_byte_floor_s: float = 10.0
    """An engine has at least this long for its first byte, and four times what its work predicts."""
    serve_unmetered: bool = False
    """While the journal cannot be written, requests are served without a record; otherwise they are answered 503."""
