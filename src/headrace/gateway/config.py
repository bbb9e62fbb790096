"""What a gateway is told at its start: one JSON document on standard input."""

from __future__ import annotations

import msgspec

MIB = 1024 * 1024


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
    log_level: str = "INFO"
    max_body_bytes: int = 4 * MIB
    """Of a request to the data plane; the controller's paths take as much."""
    drain_s: float = 20.0
    """After SIGTERM: how long answers in flight may take to end."""
    total_s: float = 297.0
    """Of one request, from its arrival; below the 300 s after which clients and balancers give up by themselves."""
    first_byte_floor_s: float = 10.0
    """An engine has at least this long for its first byte, and four times what its work predicts."""
    serve_unmetered: bool = False
    """While the journal cannot be written, requests are served without a record; otherwise they are answered 503."""
