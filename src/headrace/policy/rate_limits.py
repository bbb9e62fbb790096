"""Rate limits of an endpoint: calls and raw tokens a minute, for all callers together, for each, or for one of them.

Not the range: that sells work, and this holds down who uses it. A request must be within all limits that hold for it:

- that of the ``endpoint``, shared by everybody;
- its caller's own, and where the caller has none, that of each ``user`` or each ``service_principal``. A service
  principal is held by the limit of each ``user`` where there is none of each ``service_principal``.

Calls and tokens are decided each by itself: a caller with a limit of its own on tokens keeps that of each on calls.
(As Databricks documents it: the endpoint's limit is a maximum over all, of calls and tokens the stricter one holds, and
a limit for one caller replaces that of each.)

Bound: in any 60 s at most the limit of calls is let through. A request is let through when the tokens of those that
ended in the last 60 s, those reserved for requests in flight and its own fit the limit together; so in any 60 s at most
the limit is settled, and what single requests use beyond what was reserved for them. One whose reservation alone is
larger than the limit is let through when nothing else counts, as it could not be otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

WINDOW_S = 60
"""Databricks' only renewal period is a minute."""

LimitKey = Literal["endpoint", "user", "service_principal"]
Measure = Literal["calls", "tokens"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit as it was set. Fields as in ``gateway.snapshot.RateLimitView``."""

    key: str
    principal: str | None
    calls: int | None
    tokens: int | None

    def of(self, measure: Measure) -> int | None:
        """What it allows a minute; None where it says nothing of this."""
        return self.calls if measure == "calls" else self.tokens


class Window:
    """What was added in the last minute, by the second.

    What comes within one second leaves together, when the last of it is a minute old. So ``total`` is never less than
    what was added in the last 60 s, and nothing counts longer than 61 s.
    """

    __slots__ = ("_seconds", "total")

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()
        """(second, what was added in it), oldest first."""
        self.total = 0

    def add(self, now: float, amount: int) -> None:
        """``now`` never goes back."""
        if amount <= 0:
            return
        second = int(now)
        self.total += amount
        if self._seconds and self._seconds[-1][0] == second:
            amount += self._seconds.pop()[1]
        self._seconds.append((second, amount))

    def expire(self, now: float) -> None:
        """Let go of what is too old."""
        seconds = self._seconds
        while seconds and _leaves_at(seconds[0][0]) <= now:
            self.total -= seconds.popleft()[1]

    def free_at(self, amount: int) -> float | None:
        """When so much of it will have left; None where it holds less."""
        left = 0
        for second, added in self._seconds:
            left += added
            if left >= amount:
                return float(_leaves_at(second))
        return None


class Counter:
    """How far one limit is used by those that share it."""

    __slots__ = ("key", "limit", "measure", "reserved", "whose", "window")

    def __init__(self, whose: LimitKey, measure: Measure, key: LimitKey, limit: int) -> None:
        """``whose`` use it counts, and the ``key`` under which the limit was set: that of each user may hold for a
        service principal."""
        self.whose: LimitKey = whose
        self.measure: Measure = measure
        self.key: LimitKey = key
        self.limit = limit
        self.reserved = 0
        """Tokens of requests in flight."""
        self.window = Window()

    def used(self, now: float) -> int:
        self.window.expire(now)
        return self.window.total + self.reserved

    def wait_s(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` fits if nothing else comes; 0 where it does. What is in flight is taken to end now,
        with what was reserved for it."""
        used = self.used(now)
        too_much = min(used + amount - self.limit, used)
        if too_much <= 0:
            return 0.0
        free_at = self.window.free_at(too_much)
        return (free_at if free_at is not None else _leaves_at(int(now))) - now


class Charge:
    """What a request was let through with. ``settle`` it when it has ended; a second time does nothing."""

    __slots__ = ("_counters", "_reserved")

    def __init__(self, counters: tuple[Counter, ...], reserved: int) -> None:
        self._counters = counters
        self._reserved = reserved

    def settle(self, now: float, tokens: int) -> None:
        """It has used so many raw tokens, input and output."""
        counters, self._counters = self._counters, ()
        for counter in counters:
            counter.reserved -= self._reserved
            counter.window.add(now, tokens)


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A request is not let through."""

    whose: LimitKey
    """Who has used it up: all callers of the endpoint together, or this one, of this kind."""
    key: LimitKey
    """Under which it was set."""
    measure: Measure
    limit: int
    """0: nothing is ever let through."""
    used: int
    """In the last minute; of tokens, with what is reserved for requests in flight."""
    asked: int
    retry_after_s: float
    """Until it would be let through if nothing else came; 0 where that is never."""


class RateLimits:
    """All limits of one endpoint. ``now`` is in seconds on one monotonic clock.

    Keeps at most 61 numbers for each caller and measure, from its first call until the limits change.
    """

    def __init__(self, limits: Iterable[RateLimit]) -> None:
        self._limits = tuple(limits)
        self._counters: dict[tuple[str, str, Measure], Counter] = {}
        """By whose use it is (kind, and name; none for the endpoint's) and measure."""
        self._callers: dict[tuple[str, str], tuple[Counter, ...]] = {}
        """By kind and name of the caller: what holds for it, made when it first calls."""

    def configure(self, now: float, limits: Iterable[RateLimit]) -> None:
        """Other limits from now on. What was used in the last minute stays used, where it is counted still."""
        self._limits = tuple(limits)
        self._callers.clear()
        self._counters = {name: counter for name, counter in self._counters.items() if counter.used(now)}

    def admit(self, now: float, kind: str, name: str, tokens: int) -> Charge | Exceeded:
        """Let a request of a caller through, with so many tokens reserved for it, or say what it would exceed."""
        counters = self._callers.get((kind, name)) or self._found(kind, name)
        worst: Exceeded | None = None
        for counter in counters:
            amount = tokens if counter.measure == "tokens" else 1
            if counter.limit == 0:
                return Exceeded(counter.whose, counter.key, counter.measure, 0, 0, amount, 0.0)
            wait = counter.wait_s(now, amount)
            if wait > 0 and (worst is None or wait > worst.retry_after_s):
                used = counter.used(now)
                worst = Exceeded(counter.whose, counter.key, counter.measure, counter.limit, used, amount, wait)
        if worst is not None:
            return worst
        of_tokens = []
        for counter in counters:
            if counter.measure == "calls":
                counter.window.add(now, 1)
            else:
                counter.reserved += tokens
                of_tokens.append(counter)
        return Charge(tuple(of_tokens), tokens)

    def _found(self, kind: str, name: str) -> tuple[Counter, ...]:
        measures: tuple[Measure, ...] = ("calls", "tokens")
        found = []
        for measure in measures:
            endpoint = self._least(measure, "endpoint", None)
            if endpoint is not None:
                found.append(self._counter("endpoint", "", measure, "endpoint", endpoint))
            whose: LimitKey = "service_principal" if kind == "service_principal" else "user"
            key = whose
            own = self._least(measure, kind, name)
            if own is None:
                own = self._least(measure, kind, None)
            if own is None and kind == "service_principal":
                key, own = "user", self._least(measure, "user", None)
            if own is not None:
                found.append(self._counter(whose, name, measure, key, own))
        counters = self._callers[kind, name] = tuple(found)
        return counters

    def _least(self, measure: Measure, key: str, principal: str | None) -> int | None:
        found = [limit.of(measure) for limit in self._limits if limit.key == key and limit.principal == principal]
        return min((amount for amount in found if amount is not None), default=None)

    def _counter(self, whose: LimitKey, name: str, measure: Measure, key: LimitKey, limit: int) -> Counter:
        counter = self._counters.get((whose, name, measure))
        if counter is None:
            counter = self._counters[whose, name, measure] = Counter(whose, measure, key, limit)
        counter.key, counter.limit = key, limit
        return counter


def _leaves_at(second: int) -> int:
    """When the last instant of a second is a minute old."""
    return second + 1 + WINDOW_S
