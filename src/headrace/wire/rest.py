"""What may follow the end of an answer: read and dropped, so that its connection can be used again."""

from __future__ import annotations

import asyncio

from headrace.wire.errors import WireError
from headrace.wire.message import Header
from headrace.wire.transfer import Transfer

REST_S = 1.0
"""For all of it to come."""


class Rest:
    """A ``transfer.Reader`` that wants nothing."""

    def head(self, status: int, headers: list[Header]) -> None:
        """See ``transfer.Reader``; so the others."""

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None: ...

    def failed(self, error: WireError) -> None: ...


REST = Rest()


def read_rest(transfer: Transfer) -> None:
    """The reader has all that it wants; the connection can carry another answer when this one has been read."""
    if not transfer.reuse:
        transfer.cancel()
        return
    transfer.reader = REST
    transfer.relay = None
    transfer.resume()
    asyncio.get_running_loop().call_later(REST_S, transfer.cancel)
