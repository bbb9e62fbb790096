"""Continuous batching with chunked prefill, in simulated time: synchronous, without a clock.

One iteration of the engine does this, as Orca (OSDI '22) and Sarathi-Serve (OSDI '24, section 4) describe it:

1. Waiting requests take free slots, first come, first served.
2. Every sequence whose prompt is processed decodes one token.
3. What decodes leave of the iteration's budget of tokens goes to prompts, in the order in which they got their slots.
4. A sequence whose prompt ends in this iteration also yields its first token at the end of it.

The iteration lasts ``IterationTime.seconds(p, d, c, a)``: p prompt tokens, d decoding sequences, c tokens that the
sequences of the iteration had in their KV cache when it began, and a pairs of a prompt token and one before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from headrace.profiles.profile import IterationTime


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What matters of a request for its timing."""

    id: str
    input_tokens: int
    """At least 1."""
    output_tokens: int
    """Generated exactly; at least 1."""
    prompt: Sequence[Hashable] = ()
    """The tokens, ``input_tokens`` of them; needed only where prefixes are cached."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token generated, at the end of the iteration."""

    request: str
    index: int
    """From 1."""
    last: bool
    cached_tokens: int
    """Input tokens of the request that were in the slot's cache."""


@dataclass(frozen=True, slots=True)
class Iteration:
    duration_s: float
    prefill_tokens: int
    decode_sequences: int
    context_tokens: int
    tokens: tuple[Token, ...]


@dataclass(slots=True)
class _Sequence:
    """A request in a slot."""

    request: BatchRequest
    slot: int
    cached: int
    context: int
    """Tokens in its KV cache."""
    generated: int = 0


class BatchingCore:
    """An engine of ``slots`` slots. ``admit`` and ``cancel`` between iterations; ``next_iteration`` plans one and
    applies it, so that what it returns holds at the iteration's end."""

    def __init__(self, iteration: IterationTime, slots: int, *, prefix_cache: bool = False) -> None:
        """Raises ValueError where no request could ever progress."""
        if slots < 1 or iteration.prefill_budget < 1:
            raise ValueError("slots and prefill_budget must be at least 1")
        self._time = iteration
        self._prefix_cache = prefix_cache
        self._waiting: deque[BatchRequest] = deque()
        self._running: list[_Sequence] = []  # in the order in which they got their slots
        self._free = list(range(slots))
        self._last_prompts: list[Sequence[Hashable]] = [()] * slots  # as far as they were processed

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in a slot."""
        return len(self._running)

    def admit(self, request: BatchRequest) -> None:
        """Queue a request for the next iteration. Raises ValueError for one without input or output."""
        if request.input_tokens < 1 or request.output_tokens < 1:
            raise ValueError("a request has at least one input and one output token")
        self._waiting.append(request)

    def cancel(self, id: str) -> bool:
        """Forget a request and free its slot; False where there is none of this id."""
        for sequence in self._running:
            if sequence.request.id == id:
                self._release(sequence)
                return True
        for request in self._waiting:
            if request.id == id:
                self._waiting.remove(request)
                return True
        return False

    def next_iteration(self) -> Iteration | None:
        """The next iteration, or None where there is nothing to do."""
        self._fill_slots()
        if not self._running:
            return None
        decodes = sum(1 for sequence in self._running if sequence.generated)
        budget = max(0, self._time.prefill_budget - decodes)
        prefill = context = 0
        attention = 0.0
        tokens: list[Token] = []
        for sequence in list(self._running):
            if sequence.generated:
                context += sequence.context
                sequence.context += 1
            else:
                take = min(budget, sequence.request.input_tokens - sequence.context)
                if not take:
                    continue  # this iteration's budget is spent
                budget -= take
                prefill += take
                context += sequence.context
                attention += take * (sequence.context + take / 2)
                sequence.context += take
                if sequence.context < sequence.request.input_tokens:
                    continue
            sequence.generated += 1
            last = sequence.generated == sequence.request.output_tokens
            tokens.append(Token(sequence.request.id, sequence.generated, last, sequence.cached))
            if last:
                self._release(sequence)
        duration = self._time.seconds(prefill, decodes, context, attention)
        return Iteration(duration, prefill, decodes, context, tuple(tokens))

    def _fill_slots(self) -> None:
        while self._waiting and self._free:
            request = self._waiting.popleft()
            slot, cached = self._choose_slot(request)
            self._free.remove(slot)
            self._running.append(_Sequence(request, slot, cached, context=cached))

    def _choose_slot(self, request: BatchRequest) -> tuple[int, int]:
        """The free slot whose last prompt shares the longest prefix, and how much of it is cached."""
        if not self._prefix_cache:
            return self._free[0], 0
        shared = {slot: _common_prefix(request.prompt, self._last_prompts[slot]) for slot in self._free}
        slot = max(self._free, key=lambda free: (shared[free], -free))
        return slot, min(shared[slot], request.input_tokens - 1)  # the last token is always processed: it gives logits

    def _release(self, sequence: _Sequence) -> None:
        self._running.remove(sequence)
        self._free.append(sequence.slot)
        if self._prefix_cache:
            self._last_prompts[sequence.slot] = sequence.request.prompt[: sequence.context]


def _common_prefix(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
