"""One replica in virtual time: continuous batching with chunked prefill, by the iteration-time model.

What an iteration holds is defined in ``engines.simulated.batching``, and a test holds the two equal. Here nobody asks
for single tokens, so the sequences that decode are counted and not visited: all of them read one token more in each
iteration, and each leaves at an iteration that is known when it begins to decode. An iteration costs O(log slots), and
a run of iterations in which the same sequences decode is one sum.

A request joins at the next boundary between iterations, as one does that comes over a network: the iteration that
begins when another request ends has begun without it, unless the replica was idle.
"""

from __future__ import annotations

import heapq
from math import sqrt

from headrace.profiles.profile import IterationTime


class _Prefill:
    """A request whose prompt is not processed yet."""

    __slots__ = ("context", "input", "left", "output", "rid", "taken")

    def __init__(self, rid: str, input: int, output: int) -> None:
        self.rid = rid
        self.input = input
        self.output = output
        self.left = input
        self.context = 0
        """Prompt tokens processed."""
        self.taken = 0
        """Of them, in the iteration in progress."""


class Batch:
    """The requests on one replica. Times are in seconds and never go back between calls."""

    __slots__ = (
        "_context",
        "_decoding",
        "_ends",
        "_first_s",
        "_iteration",
        "_joining",
        "_length",
        "_more_s",
        "_prefills",
        "_said",
        "_started",
        "_time",
        "ends_at",
    )

    def __init__(self, model: IterationTime) -> None:
        self._time = model
        self._iteration = 0
        """Iterations before the run in progress."""
        self._decoding = 0
        self._context = 0
        """Tokens in the KV caches of the sequences that decode, before the run in progress."""
        self._ends: list[tuple[int, str, int]] = []
        """A heap of (iteration after which it is done, request, its context then)."""
        self._said: dict[str, tuple[int, int]] = {}
        """Of a sequence that decodes: the iteration after which it is done, and its output."""
        self._prefills: list[_Prefill] = []
        """In the order in which they came."""
        self._joining: list[_Prefill] = []
        self._started = 0.0
        """When the run in progress began. It is of ``_length`` iterations: the first lasts ``_first_s``, and each one
        after it ``_more_s`` longer than the one before."""
        self._length = 0
        self._first_s = 0.0
        self._more_s = 0.0
        self.ends_at: float | None = None
        """When ``advance`` is next due; None while there is nothing to do."""

    def add(self, now: float, rid: str, input_tokens: int, output_tokens: int) -> None:
        """A request comes, with at least one token each way; what is in its answer is known from the start."""
        self._joining.append(_Prefill(rid, input_tokens, output_tokens))
        if self.ends_at is None:
            self._begin(now)
        elif self._length > 1:  # the run ends with the iteration in progress
            self._length = max(1, self._done(now, whole=False))
            self.ends_at = self._end(self._length)

    def advance(self) -> tuple[list[str], list[str]]:
        """The run in progress is over, at ``ends_at``: the requests that got their first token at its end, and those
        that got their last."""
        assert self.ends_at is not None
        self._iteration += self._length
        self._context += self._length * self._decoding
        firsts: list[str] = []
        lasts: list[str] = []
        ends = self._ends
        while ends and ends[0][0] == self._iteration:
            _, rid, context = heapq.heappop(ends)
            del self._said[rid]
            self._decoding -= 1
            self._context -= context
            lasts.append(rid)
        if self._prefills and self._prefills[0].taken:
            self._prefills = [prefill for prefill in self._prefills if not self._prefilled(prefill, firsts, lasts)]
        self._begin(self.ends_at)
        return firsts, lasts

    def generated(self, now: float) -> list[tuple[str, int]]:
        """Of each sequence that decodes, the tokens of its answer by now."""
        iteration = self._iteration + (0 if self.ends_at is None else self._done(now, whole=True))
        return [(rid, output - (end - iteration)) for rid, (end, output) in self._said.items()]

    def _prefilled(self, prefill: _Prefill, firsts: list[str], lasts: list[str]) -> bool:
        """Whether the iteration that is over was the last of this prompt; the sequence then decodes, or is done."""
        prefill.context += prefill.taken
        prefill.left -= prefill.taken
        prefill.taken = 0
        if prefill.left:
            return False
        firsts.append(prefill.rid)
        if prefill.output == 1:
            lasts.append(prefill.rid)
            return True
        more = prefill.output - 1
        self._decoding += 1
        self._context += prefill.input
        heapq.heappush(self._ends, (self._iteration + more, prefill.rid, prefill.input + more))
        self._said[prefill.rid] = (self._iteration + more, prefill.output)
        return True

    def _begin(self, now: float) -> None:
        """Plan the next run: one iteration with prefill, or all iterations until a sequence is done."""
        if self._joining:
            self._prefills += self._joining
            self._joining = []
        if not self._prefills and not self._decoding:
            self.ends_at = None
            return
        time, decoding = self._time, self._decoding
        budget = max(0, time.prefill_budget - decoding)
        prefilled, context, attention = 0, self._context, 0.0
        for prefill in self._prefills:
            take = min(budget - prefilled, prefill.left)
            if not take:
                break
            prefill.taken = take
            prefilled += take
            context += prefill.context
            attention += take * (prefill.context + take / 2)
        self._started = now
        self._first_s = time.seconds(prefilled, decoding, context, attention)
        self._more_s = time.context_s * decoding
        self._length = 1 if prefilled else self._ends[0][0] - self._iteration
        self.ends_at = self._end(self._length)

    def _end(self, iterations: int) -> float:
        """When so many iterations of the run are over."""
        return self._started + iterations * self._first_s + iterations * (iterations - 1) / 2 * self._more_s

    def _done(self, now: float, *, whole: bool) -> int:
        """Iterations of the run that are over by now; not ``whole``: and the one in progress."""
        half = self._more_s / 2
        passed = max(0.0, now - self._started)
        # The positive root of half * n^2 + (first - half) * n = passed, in the form that does not divide by half.
        linear = self._first_s - half
        root = 2 * passed / (linear + sqrt(linear * linear + 4 * half * passed))
        done = min(int(root), self._length)
        # A root next to a whole number may have been rounded to either side of it.
        while done < self._length and self._end(done + 1) <= now:
            done += 1
        while done > 0 and self._end(done) > now:
            done -= 1
        return done if whole or self._end(done) == now else min(done + 1, self._length)
