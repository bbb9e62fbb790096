"""One attempt at one replica: the request goes there, and the answer passes through to the client.

The connection to the replica calls (``wire.client.Reader``), and nothing here waits. Most events of a stream do not
even come by (``wire.event_relay``).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from headrace.gateway.account import Account
from headrace.gateway.assemble import AssembledStream
from headrace.gateway.body import Shape
from headrace.gateway.call import Call
from headrace.gateway.content_type import type_fields
from headrace.gateway.engine_error import ERROR, REPLICA_DOWN, EngineError, engine_error
from headrace.gateway.entity import LiveEntity
from headrace.gateway.errors import ApiError
from headrace.gateway.progress_stream import ProgressStream
from headrace.gateway.relay import USAGE_MARK, Answer, RawBody, RawStream
from headrace.gateway.replica import Replica
from headrace.gateway.time_limits import FIRST_BYTE_FACTOR
from headrace.gateway.upstream_body import upstream_body
from headrace.wire.client import ConnectFailed, Transfer, WireError
from headrace.wire.event_relay import EventRelay
from headrace.wire.exchange import Exchange
from headrace.wire.message import Header
from headrace.wire.rest import read_rest

if TYPE_CHECKING:
    from headrace.gateway.flight import Flight

ERRORS_TO_EJECT = 3
"""Answers with 500 in a row from a replica, to whatever requests, before it is taken as broken: one speaks of the
request as often as of the replica."""

ERROR_BODY_BYTES = 64 * 1024


class Attempt:
    """``send`` it; its flight is told once how it has ended: ``landed``, ``lost`` or ``fail``. Or ``cancel`` it."""

    __slots__ = (
        "_account",
        "_answer",
        "_call",
        "_content_type",
        "_entity",
        "_error_body",
        "_error_status",
        "_exchange",
        "_flight",
        "_length",
        "_passed",
        "_relay",
        "_transfer",
        "first_byte_by",
        "first_byte_s",
        "replica",
        "started",
    )

    def __init__(
        self, flight: Flight, exchange: Exchange, account: Account, call: Call, entity: LiveEntity, replica: Replica
    ) -> None:
        self._flight = flight
        self._exchange = exchange
        self._account = account
        self._call = call
        self._entity = entity
        self.replica = replica
        self.started = False
        """The first piece of the answer has come."""
        self.first_byte_s = self.first_byte_by = 0.0
        """What it may take from the sending on; and until when, in monotonic time."""
        self._transfer: Transfer | None = None
        self._answer: Answer
        self._relay: EventRelay | None = None
        """Takes most events past this object."""
        self._passed: RawStream | None = None
        """The answer that they are a part of."""
        self._content_type = b""
        self._length: int | None = None
        self._error_status = 0
        self._error_body = b""

    def send(self, first_byte_floor_s: float) -> None:
        """Raises ApiError 400 where the engine's body cannot be made of the client's."""
        account, call, replica = self._account, self._call, self.replica
        traits, limits, meter = replica.view.traits, account.limits, account.meter
        streamed = call.streams or (traits.stream_upstream and call.shape is not Shape.EMBEDDING)
        # Where nothing is streamed, the first byte comes after the last token.
        predicted = self._entity.predicted_s(limits.input_estimate, 1 if streamed else limits.max_output)
        self.first_byte_s = max(first_byte_floor_s, FIRST_BYTE_FACTOR * predicted)
        self.first_byte_by = monotonic() + self.first_byte_s
        if not streamed:
            self._answer = RawBody(meter, generates=call.shape is not Shape.EMBEDDING)
        elif not traits.stream_upstream:
            self._answer = RawStream(meter, call.usage)
        elif call.streams:
            self._answer = ProgressStream(meter, call.usage)
        else:
            self._answer = AssembledStream(meter)
        body = upstream_body(call.raw, call.body, call.shape, limits, traits, call.endpoint.view.name)
        self._transfer = replica.send(call.shape, account.rid, body, self, streamed=streamed)

    def cancel(self) -> None:
        """Nothing more is wanted from the replica."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.cancel()
            self.count_passed()

    def count_passed(self) -> None:
        """Events that have gone past this object belong to its account."""
        relay = self._relay
        if relay is not None and relay.events:
            self._account.meter.count_events(relay.events)
            relay.events = 0

    # The replica's answer.

    def head(self, status: int, headers: list[Header]) -> None:
        """See ``wire.client.Reader``."""
        if status != 200:
            self._error_status = status
            return
        for name, value in headers:
            if name == b"content-type":
                self._content_type = value
            elif name == b"content-length":
                self._length = int(value)

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None:
        """See ``wire.client.Reader``."""
        try:
            if self._error_status:
                self._take_error(data, last)
                return
            answer = self._answer
            self.count_passed()
            piece = answer.feed(data) if data else data
            if self._relay is not None and self._passed is not None:
                self._relay.ready = self._passed.between
            if piece is not data:
                framed = None
            if not self.started and (piece or answer.begun):
                self._first_byte()
            if last or answer.done:
                self._complete(answer, piece, framed, last)
            elif piece:
                exchange = self._exchange
                if not exchange.started:
                    self._start()
                exchange.write(piece, framed)
        except EngineError as error:
            self._refused(error)
        except WireError as error:
            self.failed(error)
        except Exception:
            self._flight.crash()

    def failed(self, error: WireError) -> None:
        """See ``wire.client.Reader``."""
        try:
            self.cancel()
            if not self.started:
                self._flight.lost(str(error), died=not isinstance(error, ConnectFailed))
                return
            self._entity.failed(self.replica)
            message = f"the replica was lost in the middle of the answer: {error}"
            self._flight.fail(ApiError(502, message), "engine_failed")
        except Exception:
            self._flight.crash()

    def _first_byte(self) -> None:
        self.started = True
        self._account.first_byte()
        self._entity.answered(self.replica)
        if self._exchange.started:  # by a comment
            self._join()

    def _start(self) -> None:
        """The head of an answer whose body follows in pieces."""
        exchange, account = self._exchange, self._account
        length = None if self._call.streams else self._length
        exchange.start(200, fields=account.fields() + self._type_fields(), length=length)
        self._join()

    def _join(self) -> None:
        """The answer flows: a client that reads slowly slows the replica down, and most events go past this object."""
        exchange, transfer, answer = self._exchange, self._transfer, self._answer
        if transfer is None:
            return
        exchange.on_congestion(transfer.pause, transfer.resume)
        if isinstance(answer, RawStream):
            self._passed = answer
            relay = self._relay = transfer.relay = exchange.relay(USAGE_MARK)
            if relay is not None:
                relay.ready = answer.between

    def _complete(self, answer: Answer, piece: bytes, framed: bytes | None, last: bool) -> None:
        """The end of a good answer, with its last piece."""
        if last:
            rest = answer.end()
            if rest:
                piece, framed = piece + rest, None
        if not self.started:
            if not piece:
                self._flight.lost("the replica's answer was empty", died=True)
                return
            self._first_byte()
        exchange, account, transfer = self._exchange, self._account, self._transfer
        # Settled before the client can see the end: many leave at once when they do.
        if not self._call.streams and not exchange.started:
            account.settle(200, "ok")
            exchange.respond(200, fields=account.fields() + self._type_fields(), body=piece)
        else:
            if not exchange.started:
                self._start()
            account.settle(200, "ok")
            exchange.write(piece, framed)
            exchange.finish()
        if not last and transfer is not None:
            read_rest(transfer)
        self._transfer = None
        self._flight.landed()

    def _type_fields(self) -> bytes:
        return type_fields(self._answer.content_type or self._content_type)

    # An error instead of one.

    def _take_error(self, data: bytes, last: bool) -> None:
        self._error_body += data[:ERROR_BODY_BYTES]
        if not last and len(self._error_body) < ERROR_BODY_BYTES:
            return
        self.cancel()
        error = engine_error(self._error_status, self._error_body)
        if error.status in REPLICA_DOWN:
            self._flight.lost(str(error), died=False, said=error)
        else:
            self._refused(error)

    def _refused(self, error: EngineError) -> None:
        self.cancel()
        replica = self.replica
        if error.status == ERROR:
            replica.errors_in_a_row += 1
            if replica.errors_in_a_row >= ERRORS_TO_EJECT:
                self._entity.failed(replica)
        told = error.for_client(self._entity.view.context, self._call.shape)
        self._flight.fail(told, "refused" if told.status == 400 else "engine_error")
