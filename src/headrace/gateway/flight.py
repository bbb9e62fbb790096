"""One request from its admission to its end: wait, try a replica or two, settle.

Driven by callbacks and no task of its own: from the limiter and the queue (``entity.Waiter``), from its attempt at a
replica (``attempt``), from the client's connection, and from a clock that ``check`` hears of.

The order that nothing may change: reserved in the journal before the first byte goes to a replica; sent elsewhere only
before the first byte went to the client, and never after two replicas died under it; settled exactly once, before the
client sees the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from headrace.gateway.account import CLIENT_CLOSED, Account
from headrace.gateway.attempt import Attempt
from headrace.gateway.call import Call
from headrace.gateway.content_type import JSON, STREAM_FIELDS
from headrace.gateway.engine_error import EngineError
from headrace.gateway.entity import LiveEntity
from headrace.gateway.errors import ApiError
from headrace.gateway.time_limits import TimeLimits
from headrace.journal.writer import JournalError
from headrace.policy.endpoint import Dispatch, Outcome, Refuse
from headrace.policy.rate_limits import RateLimits
from headrace.wire.exchange import Exchange

LOSSES_ALLOWED = 1
"""Replicas that may die under a request before it is suspected of killing them; or answer, before another one is not
asked, that they cannot."""

JOURNAL_RETRY_S = 1.0

FAILING = "Its replicas fail to start or do not answer; the operator sees why in `headrace status`."
"""Why is not for clients: it has paths in it."""
NO_ROOM = "There is no room for its replicas; the operator sees in `headrace status` what has it."
"""Nor is this: they would learn of other endpoints."""
COMMENT = b": waiting\n\n"

log = logging.getLogger(__name__)


class Flight:
    """``begin`` it; ``over`` is called once when it has ended."""

    __slots__ = (
        "_account",
        "_attempt",
        "_call",
        "_deaths",
        "_entity",
        "_exchange",
        "_limits",
        "_losses",
        "_over",
        "_said_at",
        "_total_by",
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
        self._entity: LiveEntity
        self._tried: tuple[LiveEntity, ...] = ()
        """Entities that have failed it."""
        self._waits = False
        """In the queue of its entity."""
        self._attempt: Attempt | None = None
        """The one that it waits for the end of."""
        self._deaths = self._losses = 0
        self._total_by = account.arrived + limits.total_s
        self._said_at = account.arrived

    def begin(self) -> None:
        """Answer the exchange, now or by and by."""
        try:
            endpoint = self._call.endpoint
            entity = endpoint.route()
            if endpoint.rate_limits is None or self._within(endpoint.rate_limits, entity):
                self._enter(entity, first=True)
        except ApiError as error:  # as if it had not been understood
            self.fail(error, "refused")
        except Exception:
            self.crash()
        if self._over is not None:
            self._exchange.on_client_gone(self._client_gone)

    def cut(self, error: ApiError) -> None:
        """End it now, with this error."""
        self.fail(error, "engine_failed", final=True)

    def check(self, now: float) -> None:
        """Called a few times a second with the monotonic time."""
        try:
            attempt = self._attempt
            if now >= self._total_by:
                message = f"the answer was not complete within {self._limits.total_s:g} s"
                self.fail(ApiError(504, message, code="total_timeout"), "timeout")
            elif attempt is not None and attempt.started:
                attempt.count_passed()
                self._account.advance(now)
            else:
                if attempt is not None and now >= attempt.first_byte_by:
                    self.lost("the time limit for the first byte has passed", died=True, late=True)
                self._comment(now)
        except Exception:
            self.crash()

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
        self.fail(error, "engine_failed", final=True)
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
            if decision.status == 503 and self._entity.fails:
                message = f"{message} {FAILING}"
            elif decision.status == 503 and self._entity.shut_out:
                message = f"{message} {NO_ROOM}"
            error = ApiError(decision.status, message, code=decision.reason, retry_after_s=decision.retry_after_s)
            if not self._falls_back(error, "engine_failed"):
                self._account.refuse(decision)
                self.fail(error, "engine_failed", final=True)
        except ApiError as error:
            self.fail(error, "refused" if error.status == 400 else "engine_failed", final=True)
        except Exception:
            self.crash()

    def entity_gone(self) -> None:
        """See ``entity.Waiter``."""
        self._waits = False
        endpoint = self._call.endpoint
        try:
            if endpoint.removed:
                raise ApiError(404, f"endpoint {endpoint.view.name!r} was deleted")
            self._enter(endpoint.route())
        except ApiError as error:
            self.fail(error, "engine_failed", final=True)
        except Exception:
            self.crash()

    def _dispatch(self, dispatch: Dispatch) -> None:
        """Raises ApiError 400 and 503."""
        account, entity = self._account, self._entity
        try:
            account.reserve(dispatch)
        except JournalError as error:
            raise ApiError(
                503,
                f"usage cannot be recorded, so nothing is served: {error}",
                code="journal_unavailable",
                retry_after_s=JOURNAL_RETRY_S,
            ) from None
        replica = entity.replicas.get(dispatch.replica)
        if replica is None:
            self.lost("the replica is gone", died=False)
            return
        attempt = self._attempt = Attempt(self, self._exchange, account, self._call, entity, replica)
        attempt.send(self._limits.first_byte_floor_s)

    # How its attempt has ended.

    def lost(self, reason: str, *, died: bool, late: bool = False, said: EngineError | None = None) -> None:
        """No byte of an answer will come from the replica: wait for another one.

        ``died``: it was sent there, and may be the cause. ``said``: that the replica cannot, so it is alive.
        """
        account, entity = self._account, self._entity
        attempt, self._attempt = self._attempt, None
        name = "unknown"
        self._deaths += died
        self._losses += died or said is not None
        if attempt is not None:
            attempt.cancel()
            name = attempt.replica.view.id
            # Each request that tries a replica which hangs wastes as long again: rather leave it alone for that time.
            entity.failed(attempt.replica, at_least_s=attempt.first_byte_s if late else 0.0)
        if self._losses > LOSSES_ALLOWED:
            if said is not None:
                self.fail(said.for_client(entity.view.context, self._call.shape), "engine_failed")
            elif late:
                message = f"two replicas gave no answer: {reason}; it is not sent again"
                self.fail(ApiError(504, message, retry=False), "timeout")
            else:
                failed = "died under" if self._deaths > LOSSES_ALLOWED else "failed"
                message = f"two replicas {failed} this request: {reason}; it is not sent again"
                self.fail(ApiError(502, message, retry=False), "engine_failed")
            return
        log.warning(
            "replica lost before the first byte; the request waits for another",
            extra={"fields": {"id": account.rid, "replica": name, "reason": reason}},
        )
        account.lost()
        self._waits = True
        entity.readmit(self, account.rid)

    def fail(self, error: ApiError, outcome: Outcome, *, final: bool = False) -> None:
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
        elif self._call.streams:
            exchange.write(error.event())
            exchange.break_off()
        else:
            exchange.abort()
        self.landed()

    def crash(self) -> None:
        """A mistake of ours, being handled; it costs this request and no other."""
        log.exception("a request failed in the gateway", extra={"fields": {"id": self._account.rid}})
        try:
            self.fail(ApiError(500, "internal error"), "engine_failed")
        except Exception:
            log.exception("and could not be answered", extra={"fields": {"id": self._account.rid}})
            self._exchange.abort()
            self.landed()

    def landed(self) -> None:
        """It is settled, and the client has all that it will get."""
        over, self._over = self._over, None
        self._attempt = None
        if over is not None:
            over(self)

    # Otherwise.

    def _falls_back(self, error: ApiError, outcome: Outcome) -> bool:
        """Go on to the next entity, where the endpoint wants that, one is left, and the client has seen nothing."""
        endpoint, attempt = self._call.endpoint, self._attempt
        if not endpoint.view.fallback or (error.status != 429 and error.status < 500):
            return False
        if attempt is not None and attempt.started:
            return False
        if self._deaths > LOSSES_ALLOWED or monotonic() >= self._total_by:
            return False
        self._tried += (self._entity,)
        for entity in endpoint.after(self._entity):
            if entity in self._tried:
                continue
            try:
                self._call.limits(entity)
            except ApiError:
                continue
            self._account.moves(outcome)
            self._losses = self._deaths
            self._attempt = None
            self._enter(entity)  # fits its context, so this raises nothing
            return True
        return False

    def _comment(self, now: float) -> None:
        """Keep proxies from cutting a stream that says nothing yet."""
        every = self._limits.comment_s
        if every is None or not self._call.streams or not self._call.comments or now - self._said_at < every:
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
            self.landed()
        except Exception:
            self.crash()

    def _cancel(self) -> None:
        """Nothing more is wanted from the replica."""
        if self._attempt is not None:
            self._attempt.cancel()
