"""What a server takes from a client, and the refusal beyond it."""

from __future__ import annotations

from dataclasses import dataclass


class BadRequest(Exception):
    """The bytes are no request that may be served; the connection ends after the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each connection, but for ``connections``. Beyond them the server answers with the status in brackets."""

    head_bytes: int = 64 * 1024
    """Request line and header fields together (431)."""
    head_fields: int = 256
    """Header fields (431): an empty one takes four bytes on the line and two hundred in memory."""
    body_bytes: int = 4 * 1024 * 1024
    """After decoding (413)."""
    handshake_timeout_s: float = 10.0
    """TLS: from the connection to the end of the handshake; then the connection is closed without a word."""
    head_timeout_s: float = 10.0
    """From the first byte of a request to the end of its head (408)."""
    body_timeout_s: float = 60.0
    """From the end of the head to the end of the body (408)."""
    idle_timeout_s: float = 75.0
    """Without a request: the connection is closed without a word."""
    stall_timeout_s: float = 60.0
    """A client that reads nothing while bytes wait for it is taken as gone."""
    connections: int = 4096
    """Open at once (503)."""
    write_buffer_bytes: int = 64 * 1024
    """``Exchange.drain`` waits while more than this waits for the client."""

    @property
    def shortest_timeout_s(self) -> float:
        return min(self.head_timeout_s, self.body_timeout_s, self.idle_timeout_s, self.stall_timeout_s)

    def refuse_body_of(self, size: int) -> None:
        """Raises BadRequest for a body of more bytes than ``body_bytes``."""
        if size > self.body_bytes:
            raise BadRequest(413, f"the body exceeds {self.body_bytes} bytes")
