"""Every path that is not the data plane goes to the controller, as it came, and its answer goes back as it comes."""

from __future__ import annotations

import asyncio

from headrace.gateway.errors import ApiError
from headrace.wire.client import Client, ConnectFailed, Response, WireError
from headrace.wire.exchange import ClientGone, Exchange
from headrace.wire.message import Header

BODILESS = (204, 304)
SAFE = ("GET", "HEAD")
"""May be asked again whatever became of them: clients do so by themselves after a 503."""


class Proxy:
    """To one origin."""

    def __init__(self, controller_socket: str, *, tls: bool = False) -> None:
        """``tls``: clients come by it, so URLs of this host that the controller makes begin with https. (Without it a
        proxy in front may have said so.)"""
        self._client = Client(f"unix:{controller_socket}")
        self._forwarded = [(b"x-forwarded-proto", b"https")] if tls else []

    async def handle(self, exchange: Exchange, rid: str) -> int:
        """Answer the exchange; returns the status. Raises ApiError 502 or 503, and ClientGone."""
        request = exchange.request
        task = asyncio.current_task()
        assert task is not None
        exchange.on_client_gone(task.cancel)
        headers = _end_to_end(request.headers, rid)
        if self._forwarded:
            headers = [header for header in headers if header[0] != b"x-forwarded-proto"] + self._forwarded
        try:
            response = await self._client.request(request.method, request.target, headers, request.body)
            async with response:
                return await _pass_on(exchange, response, rid)
        except ConnectFailed:
            raise _unavailable("the controller is not running") from None
        except WireError as error:
            if exchange.started:
                exchange.abort()
                return 502
            if request.method in SAFE:
                raise _unavailable(f"the controller ended: {error}") from None
            raise ApiError(502, f"the controller did not answer: {error}", code="controller_failed") from None
        except asyncio.CancelledError:
            if exchange.client_gone:
                raise ClientGone from None
            raise

    async def close(self) -> None:
        await self._client.close()


def _unavailable(why: str) -> ApiError:
    return ApiError(
        503,
        f"{why}, so this path cannot be served now; requests to endpoints are",
        code="controller_unavailable",
        retry_after_s=1.0,
    )


def _end_to_end(headers: list[Header], rid: str) -> list[Header]:
    """Those that go further, with our request id.

    Not what the sender says is for this connection (RFC 9110 7.6.1), and no expectation: it was met when the body came.
    What always belongs to one connection, ``wire`` leaves out.
    """
    left_out = {b"x-request-id", b"expect"}
    for name, value in headers:
        if name == b"connection":
            left_out.update(option.strip() for option in value.lower().split(b","))
    return [*(header for header in headers if header[0] not in left_out), (b"x-request-id", rid.encode())]


async def _pass_on(exchange: Exchange, response: Response, rid: str) -> int:
    head = exchange.request.method == "HEAD"
    headers = _end_to_end(response.headers, rid)
    length = response.header(b"content-length")
    if head or response.status in BODILESS:
        if length is not None:
            headers.append((b"content-length", length))
        exchange.respond(response.status, headers)
        return response.status
    exchange.start(response.status, headers, length=int(length) if length else None)
    async for piece in response:
        exchange.write(piece)
        if exchange.congested:
            await exchange.drain()
    exchange.finish()
    return response.status
