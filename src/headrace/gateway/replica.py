"""A replica as the gateway speaks to it: its connections, and the heads of the requests that go there."""

from __future__ import annotations

from urllib.parse import urlsplit

from headrace.gateway.body import Shape
from headrace.gateway.snapshot import ReplicaView
from headrace.wire.client import Client, Reader, Transfer

IDLE_CONNECTION_S = 3.0
"""Below the 5 s after which common engines close an idle connection themselves: both at once is a race."""
SPARE_CONNECTIONS = 64
"""Kept beside one for each slot: a request may go before the connection of the last one is known to be free."""


class Replica:
    """Made anew where the URL or the secret changes; answers in flight hold on to the one that they came from."""

    __slots__ = ("_client", "_heads", "errors_in_a_row", "view")

    def __init__(self, view: ReplicaView) -> None:
        self.view = view
        self.errors_in_a_row = 0
        """Answers with 500 since the last good one."""
        parts = urlsplit(view.url)
        self._client = Client(
            f"{parts.scheme}://{parts.netloc}", idle_s=IDLE_CONNECTION_S, max_idle=view.slots + SPARE_CONNECTIONS
        )
        secret = f"authorization: Bearer {view.secret}\r\n" if view.secret else ""
        fields = f"content-type: application/json\r\n{secret}x-request-id: ".encode()
        base = parts.path.rstrip("/")
        self._heads = {
            shape: b"POST %b HTTP/1.1\r\nhost: %b\r\n%b"
            % (f"{base}{shape.value}".encode("ascii"), self._client.authority, fields)
            for shape in Shape
        }

    def send(self, shape: Shape, rid: str, body: bytes, reader: Reader, *, streamed: bool) -> Transfer:
        """Send a request; the reader takes the answer. ``streamed``: it will come as events."""
        reuse = self.view.traits.reuse_after_stream or not streamed
        payload = b"%b%b\r\ncontent-length: %d\r\n%b\r\n%b" % (
            self._heads[shape],
            rid.encode("ascii"),
            len(body),
            b"" if reuse else b"connection: close\r\n",
            body,
        )
        return self._client.send("POST", payload, reader, reuse=reuse)
