"""One request from its admission to its end: wait, send, pass the answer on, settle.

The order that nothing may change: reserved in the journal before the first byte goes to a replica; sent elsewhere only
before the first byte went to the client, and never after two replicas died under it; settled exactly once, before the
client sees the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from headrace.gateway.account import CLIENT_CLOSED, Account
from headrace.gateway.assemble import Assembly
from headrace.gateway.call import Call
from headrace.gateway.endpoint import EndpointGone, Replica
from headrace.gateway.engine_error import REPLICA_DOWN, EngineError, engine_error
from headrace.gateway.errors import ApiError
from headrace.gateway.progress_stream import ProgressStream
from headrace.gateway.relay import Answer, RawBody, RawStream
from headrace.gateway.snapshot import Traits
from headrace.gateway.upstream_body import upstream_body
from headrace.journal.writer import JournalError
from headrace.policy.endpoint import Dispatch, Outcome, Refuse
from headrace.wire.client import ConnectFailed, ConnectionLost, Response, WireError
from headrace.wire.exchange import ClientGone, Exchange

LOSSES_ALLOWED = 1
"""Replicas that may die under a request before it is suspected of killing them."""

FIRST_BYTE_FACTOR = 4.0
"""Times the predicted time: a slow prefill must not eject a healthy replica."""

ERROR_BODY_BYTES = 64 * 1024

REST_S = 1.0
"""For what may follow the end of an answer before its connection can be used again."""

JOURNAL_RETRY_S = 1.0

JSON = (b"content-type", b"application/json")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    total_s: float
    """Of a request, from its arrival."""
    first_byte_floor_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """An answer whose first piece has come."""

    response: Response
    answer: Answer
    piece: bytes
    traits: Traits


class ReplicaLost(Exception):
    """No byte of an answer came from the replica, and none will."""

    def __init__(self, reason: str, *, died: bool, late: bool) -> None:
        super().__init__(reason)
        self.died = died
        """The request had been sent, and may be the cause."""
        self.late = late


class Flight:
    """Give it an account and ``run`` it in the task of its exchange."""

    def __init__(self, exchange: Exchange, account: Account, call: Call, limits: TimeLimits) -> None:
        self._exchange = exchange
        self._account = account
        self._call = call
        self._limits = limits
        self._endpoint = call.endpoint
        self._streams = call.body.streams
        # What is put together here needs the usage, whoever asked for it.
        self._keep_usage = call.keep_usage or not self._streams
        self._losses = 0
        self._task: asyncio.Task[None] | None = None
        self._cut: ApiError | None = None

    def cut(self, error: ApiError) -> None:
        """End it now, with this error."""
        if self._task is not None and self._cut is None:
            self._cut = error
            self._task.cancel()

    async def run(self) -> None:
        """Answer the exchange."""
        account, exchange = self._account, self._exchange
        self._task = asyncio.current_task()
        assert self._task is not None
        exchange.on_client_gone(self._task.cancel)
        try:
            async with asyncio.timeout_at(account.arrived + self._limits.total_s):
                await self._answer(await self._start())
        except ApiError as error:
            self._fail(error, "timeout" if error.status == 504 else "engine_failed")
        except EndpointGone:
            self._fail(ApiError(404, f"endpoint {self._endpoint.view.name!r} was deleted"), "engine_failed")
        except EngineError as error:
            told = error.for_client(self._endpoint.entity.context)
            self._fail(told, "refused" if told.status == 400 else "engine_error")
        except WireError as error:
            self._fail(ApiError(502, f"the replica was lost in the middle of the answer: {error}"), "engine_failed")
        except TimeoutError:
            self._fail(
                ApiError(504, f"the answer was not complete within {self._limits.total_s:g} s", code="total_timeout"),
                "timeout",
            )
        except ClientGone:
            account.settle(CLIENT_CLOSED, "client_gone")
        except asyncio.CancelledError:
            if self._cut is not None:
                self._fail(self._cut, "engine_failed")
                return
            account.settle(CLIENT_CLOSED, "client_gone")
            if not exchange.client_gone:
                raise
        except Exception:
            log.exception("a request failed in the gateway", extra={"fields": {"id": account.rid}})
            self._fail(ApiError(500, "internal error"), "engine_failed")

    # Until the first byte.

    async def _start(self) -> Started:
        """The answer with its first piece; every other way out is an exception."""
        account, endpoint = self._account, self._endpoint
        decision = await endpoint.admit(account.ask())
        while True:
            if isinstance(decision, Refuse):
                account.refuse(decision)
                raise ApiError(
                    decision.status, decision.message, code=decision.reason, retry_after_s=decision.retry_after_s
                )
            self._reserve(decision)
            replica = endpoint.replicas.get(decision.replica)
            try:
                if replica is None:
                    raise ReplicaLost("the replica is gone", died=False, late=False)
                started = await self._send(replica)
            except ReplicaLost as lost:
                self._losses += lost.died
                if replica is not None:
                    endpoint.block(replica)
                if self._losses > LOSSES_ALLOWED:
                    raise _given_up(lost) from None
                log.warning(
                    "replica lost before the first byte; the request waits for another",
                    extra={"fields": {"id": account.rid, "replica": decision.replica, "reason": str(lost)}},
                )
                account.lost()
                decision = await endpoint.readmit(account.rid)
            else:
                replica.failures_in_a_row = 0
                account.first_byte()
                return started

    def _reserve(self, dispatch: Dispatch) -> None:
        try:
            self._account.reserve(dispatch)
        except JournalError as error:
            raise ApiError(
                503,
                f"usage cannot be recorded, so nothing is served: {error}",
                code="journal_unavailable",
                retry_after_s=JOURNAL_RETRY_S,
            ) from None

    async def _send(self, replica: Replica) -> Started:
        """Raises ReplicaLost or EngineError."""
        streams = self._streams or replica.view.traits.stream_upstream
        limit = self._first_byte_limit(streams)
        try:
            async with asyncio.timeout(limit):
                return await self._first_piece(replica, streams)
        except TimeoutError:
            raise ReplicaLost(f"no first byte within {limit:.0f} s", died=True, late=True) from None
        except WireError as error:
            raise ReplicaLost(str(error), died=not isinstance(error, ConnectFailed), late=False) from None

    def _first_byte_limit(self, streams: bool) -> float:
        """Seconds. Where nothing is streamed, the first byte comes after the last token."""
        limits = self._call.limits
        predicted = self._endpoint.predicted_s(limits.input_estimate, 1 if streams else limits.max_output)
        return min(self._limits.total_s, max(self._limits.first_byte_floor_s, FIRST_BYTE_FACTOR * predicted))

    async def _first_piece(self, replica: Replica, streams: bool) -> Started:
        call, traits = self._call, replica.view.traits
        body = upstream_body(call.raw, call.body, call.limits, traits, self._endpoint.view.name)
        response = await replica.client.request(
            "POST",
            replica.base_path + call.shape.value,
            [*replica.headers, (b"x-request-id", self._account.rid.encode())],
            body,
            reuse=traits.reuse_after_stream or not streams,
        )
        try:
            if response.status != 200:
                error = engine_error(response.status, await response.read(ERROR_BODY_BYTES))
                if error.status in REPLICA_DOWN:
                    raise ReplicaLost(str(error), died=True, late=False)
                raise error
            answer: Answer
            if traits.stream_upstream:
                answer = ProgressStream(response, self._account.meter, keep_usage=self._keep_usage)
            elif streams:
                answer = RawStream(response, self._account.meter, keep_usage=self._keep_usage)
            else:
                answer = RawBody(response, self._account.meter)
            return Started(response, answer, await answer.piece(), traits)
        except BaseException:
            response.close()
            raise

    # From the first byte on.

    async def _answer(self, started: Started) -> None:
        async with started.response:
            if started.traits.stream_upstream and not self._streams:
                await self._assemble(started)
            else:
                await self._pass_on(started)

    async def _pass_on(self, started: Started) -> None:
        exchange, account, answer, piece = self._exchange, self._account, started.answer, started.piece
        headers = [*account.headers(), (b"content-type", started.response.header(b"content-type") or b"")]
        if self._streams:
            headers.append((b"cache-control", b"no-cache"))
            exchange.start(200, headers)
        else:
            length = started.response.header(b"content-length")
            exchange.start(200, headers, length=int(length) if length else None)
        while piece and not answer.done:
            account.advance()
            exchange.write(piece)
            if exchange.congested:
                await exchange.drain()
            piece = await answer.piece()
        if started.traits.stream_upstream and not answer.done:
            raise ConnectionLost("the engine ended the stream without its end mark")
        # Settled before the client can see the end: many leave at once when they do.
        account.settle(200, "ok")
        exchange.write(piece)
        exchange.finish()
        await _read_to_end(started)

    async def _assemble(self, started: Started) -> None:
        account, answer, piece = self._account, started.answer, started.piece
        assembly = Assembly()
        while piece:
            assembly.feed(piece)
            account.advance()
            if answer.done:
                break
            piece = await answer.piece()
        if not answer.done:
            raise ConnectionLost("the engine ended the stream without its end mark")
        account.settle(200, "ok")
        self._exchange.respond(200, [*account.headers(), JSON], assembly.body())

    def _fail(self, error: ApiError, outcome: Outcome) -> None:
        """Settle, and tell the client in the form that is still possible."""
        exchange, account = self._exchange, self._account
        account.settle(error.status, outcome)
        if not exchange.started:
            exchange.respond(error.status, [*account.headers(), *error.headers(), JSON], error.body())
        elif self._streams:
            exchange.keep_alive = False
            exchange.write(error.event())
            exchange.finish()
        else:
            exchange.abort()


def _given_up(lost: ReplicaLost) -> ApiError:
    if lost.late:
        return ApiError(504, f"two replicas gave no answer: {lost}; the request is not sent again")
    return ApiError(502, f"two replicas died under this request: {lost}; it is not sent again")


async def _read_to_end(started: Started) -> None:
    """The connection can carry another request only when this answer has been read to its last byte."""
    if started.traits.reuse_after_stream and not started.response.complete:
        with contextlib.suppress(WireError, TimeoutError):
            async with asyncio.timeout(REST_S):
                await started.answer.piece()
