"""One request from its admission to its end: wait, send, pass the answer on, settle.

Driven by callbacks and no task of its own: from the limiter and the queue (``entity.Waiter``), from the connection to
the replica (``wire.client.Reader``), from the client's connection, and from a clock that ``check`` hears of.

The order that nothing may change: reserved in the journal before the first byte goes to a replica; sent elsewhere only
before the first byte went to the client, and never after two replicas died under it; settled exactly once, before the
client sees the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import cast

from headrace.gateway.account import CLIENT_CLOSED, Account
from headrace.gateway.assemble import AssembledStream
from headrace.gateway.body import Shape
from headrace.gateway.call import Call
from headrace.gateway.engine_error import ERROR, REPLICA_DOWN, EngineError, engine_error
from headrace.gateway.entity import LiveEntity
from headrace.gateway.errors import ApiError
from headrace.gateway.progress_stream import ProgressStream
from headrace.gateway.relay import USAGE_MARK, Answer, RawBody, RawStream
from headrace.gateway.replica import Replica
from headrace.gateway.upstream_body import upstream_body
from headrace.journal.writer import JournalError
from headrace.policy.endpoint import Dispatch, Outcome, Refuse
from headrace.policy.rate_limits import RateLimits
from headrace.wire.client import ConnectFailed, Transfer, WireError
from headrace.wire.event_relay import EventRelay
from headrace.wire.exchange import Exchange
from headrace.wire.message import Header, field_lines

LOSSES_ALLOWED = 1
"""Replicas that may die under a request before it is suspected of killing them; or answer, before another one is not
asked, that they cannot."""

ERRORS_TO_EJECT = 3
"""Answers with 500 in a row from a replica, to whatever requests, before it is taken as broken: one speaks of the
request as often as of the replica."""

FIRST_BYTE_FACTOR = 4.0
"""Times the predicted time: a slow prefill must not eject a healthy replica."""

ERROR_BODY_BYTES = 64 * 1024

REST_S = 1.0
"""For what may follow the end of an answer before its connection can be used again."""

JOURNAL_RETRY_S = 1.0

JSON = (b"content-type", b"application/json")
STREAM_FIELDS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
TYPE_FIELDS = {
    b"application/json": b"content-type: application/json\r\n",
    b"text/event-stream": b"content-type: text/event-stream\r\ncache-control: no-cache\r\n",
    b"text/event-stream; charset=utf-8": STREAM_FIELDS,
    b"": b"",
}
FAILING = "Its replicas fail to start or do not answer; the operator sees why in `headrace status`."
"""Why is not for clients: it has paths in it."""
COMMENT = b": waiting\n\n"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    total_s: float
    """Of a request, from its arrival."""
    first_byte_floor_s: float
    comment_s: float | None = None
    """How long a stream says nothing before a comment is sent; None for never."""


class Rest:
    """Reads what may still come behind an answer that has ended, so that its connection can be used again."""

    def head(self, status: int, headers: list[Header]) -> None:
        """See ``transfer.Reader``; so the others."""

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None: ...

    def failed(self, error: WireError) -> None: ...


class Flight:
    """``begin`` it; ``over`` is called once when it has ended."""

    __slots__ = (
        "_account",
        "_answer",
        "_call",
        "_content_type",
        "_deaths",
        "_entity",
        "_error_body",
        "_error_status",
        "_exchange",
        "_first_byte_by",
        "_length",
        "_limits",
        "_losses",
        "_over",
        "_passed",
        "_relay",
        "_replica",
        "_said_at",
        "_sent_at",
        "_started",
        "_streams",
        "_total_by",
        "_transfer",
        "_tried",
        "_waits",
    )

    def __init__(
        self,
        exchange: Exchange,
        account: Account,
        call: Call,
        limits: TimeLimits,
        over: Callable[[Flight], None],
    ) -> None:
        self._exchange = exchange
        self._account = account
        self._call = call
        self._limits = limits
        self._over: Callable[[Flight], None] | None = over
        self._streams = call.streams
        self._entity: LiveEntity
        self._tried: list[LiveEntity] = []
        """Entities that have failed it."""
        self._waits = False
        """In the queue of its entity."""
        self._deaths = self._losses = 0
        self._replica: Replica | None = None
        """That it was sent to, until its answer has ended."""
        self._transfer: Transfer | None = None
        self._answer: Answer | None = None
        self._relay: EventRelay | None = None
        """Takes most events past this object."""
        self._passed: RawStream | None = None
        """The answer that they are a part of."""
        self._started = False
        """The first piece of the answer has come."""
        self._length: int | None = None
        self._content_type = b""
        self._error_status = 0
        self._error_body = b""
        self._total_by = account.arrived + limits.total_s
        self._first_byte_by = self._total_by
        self._sent_at = self._said_at = account.arrived

    def begin(self) -> None:
        """Answer the exchange, now or by and by."""
        try:
            endpoint = self._call.endpoint
            entity = endpoint.route()
            if endpoint.rate_limits is None or self._within(endpoint.rate_limits, entity):
                self._enter(entity, first=True)
        except ApiError as error:  # as if it had not been understood
            self._fail(error, "refused")
        except Exception:
            self._crash()
        if self._over is not None:
            self._exchange.on_client_gone(self._client_gone)

    def cut(self, error: ApiError) -> None:
        """End it now, with this error."""
        self._fail(error, "engine_failed", final=True)

    def check(self, now: float) -> None:
        """Called a few times a second with the monotonic time."""
        try:
            if now >= self._total_by:
                message = f"the answer was not complete within {self._limits.total_s:g} s"
                self._fail(ApiError(504, message, code="total_timeout"), "timeout")
            elif self._started:
                self._count_passed()
                self._account.advance(now)
            else:
                if now >= self._first_byte_by and self._transfer is not None:
                    self._lost("the time limit for the first byte has passed", died=True, late=True)
                self._comment(now)
        except Exception:
            self._crash()

    # Until it is sent.

    def _within(self, limits: RateLimits, entity: LiveEntity) -> bool:
        """Whether the rate limits of the endpoint let it go on; where not, it has been answered, and no other entity is
        tried. Raises ApiError 400 and 403."""
        account = self._account
        account.enter(entity)
        refused = account.charge(limits)
        if refused is None:
            return True
        account.refuse(refused)
        error = ApiError(429, refused.message, code=refused.reason, retry_after_s=refused.retry_after_s)
        self._fail(error, "engine_failed", final=True)
        return False

    def _enter(self, entity: LiveEntity, *, first: bool = False) -> None:
        """Ask to be admitted by this entity, or where it has no room at once by one that it spills to.

        Raises ApiError 400.
        """
        account, call = self._account, self._call
        account.enter(entity)
        ask = account.ask()
        if first and call.endpoint.view.overload == "spill" and not entity.core.fits(monotonic(), ask):
            entity = self._spill(entity)
            ask = account.ask()
        self._entity = entity
        self._waits = True
        entity.admit(self, ask)

    def _spill(self, routed: LiveEntity) -> LiveEntity:
        """The next entity that has room at once, or the one that it was routed to."""
        account, asked, now = self._account, self._account.ask(), monotonic()
        for entity in self._call.endpoint.after(routed):
            try:
                account.enter(entity)
            except ApiError:
                continue  # its context is too small
            if entity.core.fits(now, account.ask()):
                routed.core.spilled(now, asked)
                return entity
        account.enter(routed)
        return routed

    def decided(self, decision: Dispatch | Refuse) -> None:
        """See ``entity.Waiter``."""
        self._waits = False
        try:
            if isinstance(decision, Dispatch):
                self._dispatch(decision)
                return
            message = decision.message
            if self._entity.fails and decision.status == 503:
                message = f"{message} {FAILING}"
            error = ApiError(decision.status, message, code=decision.reason, retry_after_s=decision.retry_after_s)
            if not self._falls_back(error, "engine_failed"):
                self._account.refuse(decision)
                self._fail(error, "engine_failed", final=True)
        except ApiError as error:
            self._fail(error, "refused" if error.status == 400 else "engine_failed", final=True)
        except Exception:
            self._crash()

    def entity_gone(self) -> None:
        """See ``entity.Waiter``."""
        self._waits = False
        endpoint = self._call.endpoint
        try:
            if endpoint.removed:
                raise ApiError(404, f"endpoint {endpoint.view.name!r} was deleted")
            self._enter(endpoint.route())
        except ApiError as error:
            self._fail(error, "engine_failed", final=True)
        except Exception:
            self._crash()

    def _dispatch(self, dispatch: Dispatch) -> None:
        account, call = self._account, self._call
        try:
            account.reserve(dispatch)
        except JournalError as error:
            raise ApiError(
                503,
                f"usage cannot be recorded, so nothing is served: {error}",
                code="journal_unavailable",
                retry_after_s=JOURNAL_RETRY_S,
            ) from None
        replica = self._replica = self._entity.replicas.get(dispatch.replica)
        if replica is None:
            self._lost("the replica is gone", died=False, late=False)
            return
        traits, limits = replica.view.traits, account.limits
        streamed = self._streams or (traits.stream_upstream and call.shape is not Shape.EMBEDDING)
        # Where nothing is streamed, the first byte comes after the last token.
        predicted = self._entity.predicted_s(limits.input_estimate, 1 if streamed else limits.max_output)
        self._sent_at = monotonic()
        self._first_byte_by = self._sent_at + max(self._limits.first_byte_floor_s, FIRST_BYTE_FACTOR * predicted)
        self._error_status, self._error_body = 0, b""
        meter = account.meter
        if not streamed:
            self._answer = RawBody(meter, generates=call.shape is not Shape.EMBEDDING)
        elif not traits.stream_upstream:
            self._answer = RawStream(meter, call.usage)
        elif self._streams:
            self._answer = ProgressStream(meter, call.usage)
        else:
            self._answer = AssembledStream(meter)
        body = upstream_body(call.raw, call.body, call.shape, limits, traits, call.endpoint.view.name)
        self._transfer = replica.send(call.shape, account.rid, body, self, streamed=streamed)

    # The replica's answer.

    def head(self, status: int, headers: list[Header]) -> None:
        """See ``wire.client.Reader``."""
        if status != 200:
            self._error_status = status
            return
        self._content_type, self._length = b"", None
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
            answer = cast(Answer, self._answer)
            self._count_passed()
            piece = answer.feed(data) if data else data
            if self._relay is not None and self._passed is not None:
                self._relay.ready = self._passed.between
            if piece is not data:
                framed = None
            if not self._started and (piece or answer.begun):
                self._first_byte()
            if last or answer.done:
                self._complete(answer, piece, framed, last)
            elif piece:
                exchange = self._exchange
                if not exchange.started:
                    self._start()
                exchange.write(piece, framed)
        except EngineError as error:
            self._refused_by_engine(error)
        except WireError as error:
            self.failed(error)
        except Exception:
            self._crash()

    def failed(self, error: WireError) -> None:
        """See ``wire.client.Reader``."""
        try:
            self._cancel()
            if not self._started:
                self._lost(str(error), died=not isinstance(error, ConnectFailed), late=False)
                return
            if self._replica is not None:
                self._entity.failed(self._replica)
            message = f"the replica was lost in the middle of the answer: {error}"
            self._fail(ApiError(502, message), "engine_failed")
        except Exception:
            self._crash()

    def _first_byte(self) -> None:
        self._started = True
        self._account.first_byte()
        self._entity.answered(cast(Replica, self._replica))
        if self._exchange.started:  # by a comment
            self._join()

    def _start(self) -> None:
        """The head of an answer whose body follows in pieces."""
        exchange, account = self._exchange, self._account
        length = None if self._streams else self._length
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

    def _count_passed(self) -> None:
        """Events that have gone past this object belong to its account."""
        relay = self._relay
        if relay is not None and relay.events:
            self._account.meter.count_events(relay.events)
            relay.events = 0

    def _complete(self, answer: Answer, piece: bytes, framed: bytes | None, last: bool) -> None:
        """The end of a good answer, with its last piece."""
        if last:
            rest = answer.end()
            if rest:
                piece, framed = piece + rest, None
        if not self._started:
            if not piece:
                self._lost("the replica's answer was empty", died=True, late=False)
                return
            self._first_byte()
        exchange, account, transfer = self._exchange, self._account, self._transfer
        # Settled before the client can see the end: many leave at once when they do.
        if not self._streams and not exchange.started:
            account.settle(200, "ok")
            exchange.respond(200, fields=account.fields() + self._type_fields(), body=piece)
        else:
            if not exchange.started:
                self._start()
            account.settle(200, "ok")
            exchange.write(piece, framed)
            exchange.finish()
        if not last and transfer is not None:
            _read_rest(transfer)
        self._transfer = None
        self._land()

    def _type_fields(self) -> bytes:
        content_type = cast(Answer, self._answer).content_type or self._content_type
        known = TYPE_FIELDS.get(content_type)
        return known if known is not None else field_lines([(b"content-type", content_type)])

    # What goes wrong.

    def _take_error(self, data: bytes, last: bool) -> None:
        self._error_body += data[:ERROR_BODY_BYTES]
        if not last and len(self._error_body) < ERROR_BODY_BYTES:
            return
        self._cancel()
        error = engine_error(self._error_status, self._error_body)
        if error.status in REPLICA_DOWN:
            self._lost(str(error), died=False, late=False, said=error)
        else:
            self._refused_by_engine(error)

    def _refused_by_engine(self, error: EngineError) -> None:
        self._cancel()
        replica = self._replica
        if replica is not None and error.status == ERROR:
            replica.errors_in_a_row += 1
            if replica.errors_in_a_row >= ERRORS_TO_EJECT:
                self._entity.failed(replica)
        told = error.for_client(self._entity.view.context, self._call.shape)
        self._fail(told, "refused" if told.status == 400 else "engine_error")

    def _lost(self, reason: str, *, died: bool, late: bool, said: EngineError | None = None) -> None:
        """No byte of an answer will come from the replica.

        ``died``: it was sent there, and may be the cause. ``said``: that the replica cannot, so it is alive.
        """
        self._cancel()
        account, entity = self._account, self._entity
        self._deaths += died
        self._losses += died or said is not None
        if self._replica is not None:
            # Each request that tries a replica which hangs wastes as long again: rather leave it alone for that time.
            entity.failed(self._replica, at_least_s=self._waited_s() if late else 0.0)
        name = self._replica.view.id if self._replica is not None else "unknown"
        self._replica = None
        if self._losses > LOSSES_ALLOWED:
            if said is not None:
                self._fail(said.for_client(entity.view.context, self._call.shape), "engine_failed")
            elif late:
                message = f"two replicas gave no answer: {reason}; it is not sent again"
                self._fail(ApiError(504, message, retry=False), "timeout")
            else:
                failed = "died under" if self._deaths > LOSSES_ALLOWED else "failed"
                message = f"two replicas {failed} this request: {reason}; it is not sent again"
                self._fail(ApiError(502, message, retry=False), "engine_failed")
            return
        log.warning(
            "replica lost before the first byte; the request waits for another",
            extra={"fields": {"id": account.rid, "replica": name, "reason": reason}},
        )
        account.lost()
        self._waits = True
        entity.readmit(self, account.rid)

    def _waited_s(self) -> float:
        return self._first_byte_by - self._sent_at

    def _falls_back(self, error: ApiError, outcome: Outcome) -> bool:
        """Go on to the next entity, where the endpoint wants that, one is left, and the client has seen nothing."""
        endpoint = self._call.endpoint
        if not endpoint.view.fallback or self._started or (error.status != 429 and error.status < 500):
            return False
        if self._deaths > LOSSES_ALLOWED or monotonic() >= self._total_by:
            return False
        self._tried.append(self._entity)
        for entity in endpoint.after(self._entity):
            if entity in self._tried:
                continue
            try:
                self._call.limits(entity)
            except ApiError:
                continue
            self._account.moves(outcome)
            self._losses = self._deaths
            self._replica = None
            self._enter(entity)  # fits its context, so this raises nothing
            return True
        return False

    def _comment(self, now: float) -> None:
        """Keep proxies from cutting a stream that says nothing yet."""
        every = self._limits.comment_s
        if every is None or not self._streams or not self._call.comments or now - self._said_at < every:
            return
        self._said_at = now
        exchange = self._exchange
        if not exchange.started:
            exchange.start(200, fields=self._account.fields() + STREAM_FIELDS)
        if not exchange.congested:
            exchange.write(COMMENT)

    def _client_gone(self) -> None:
        if self._over is None:
            return
        try:
            self._cancel()
            if self._waits:
                self._waits = False
                self._entity.leave(self._account.rid)
            self._account.settle(CLIENT_CLOSED, "client_gone")
            self._land()
        except Exception:
            self._crash()

    def _crash(self) -> None:
        """A mistake of ours, being handled; it costs this request and no other."""
        log.exception("a request failed in the gateway", extra={"fields": {"id": self._account.rid}})
        try:
            self._fail(ApiError(500, "internal error"), "engine_failed")
        except Exception:
            log.exception("and could not be answered", extra={"fields": {"id": self._account.rid}})
            self._exchange.abort()
            self._land()

    def _fail(self, error: ApiError, outcome: Outcome, *, final: bool = False) -> None:
        """Settle, and tell the client in the form that is still possible; or, unless ``final``, go on elsewhere."""
        if self._over is None:
            return
        self._cancel()
        if not final and self._falls_back(error, outcome):
            return
        exchange, account = self._exchange, self._account
        if self._waits:
            self._waits = False
            self._entity.leave(account.rid)
        account.settle(error.status, outcome, error.code)
        if not exchange.started:
            exchange.respond(error.status, [*error.headers(), JSON], error.body(), fields=account.fields())
        elif self._streams:
            exchange.write(error.event())
            exchange.break_off()
        else:
            exchange.abort()
        self._land()

    def _cancel(self) -> None:
        """Nothing more is wanted from the replica."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.cancel()
            self._count_passed()

    def _land(self) -> None:
        over, self._over = self._over, None
        self._transfer = None
        if over is not None:
            over(self)


def _read_rest(transfer: Transfer) -> None:
    """The answer has ended for the client; its connection can carry another one when all of it has been read."""
    if not transfer.reuse:
        transfer.cancel()
        return
    transfer.reader = Rest()
    transfer.relay = None
    transfer.resume()
    asyncio.get_running_loop().call_later(REST_S, transfer.cancel)
