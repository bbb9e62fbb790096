"""What an engine that follows an iteration-time model does with equal requests in a closed loop.

The replica works in iterations (continuous batching with chunked prefill). In one, every decoding sequence gets a
token; what they leave of the budget of tokens goes to prompts, first come, first served; a sequence whose prompt ends
in it gets its first token. ``engines.simulated.batching`` does the same with requests that come and go; a test holds
the two equal.

In a closed loop the next request comes when one is answered, so what is in an iteration does not depend on how long
iterations take: the time of a request is linear in the model's parameters, with the ``Content`` as coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS, REFERENCE_WORK
from headrace.profiles.profile import IterationTime


class Content(NamedTuple):
    """What a replica did, in the units of an iteration-time model's parameters."""

    iterations: float
    prefill: float
    """Prompt tokens processed."""
    decode: float
    """Sequences decoding, summed over iterations."""
    context: float
    """Tokens that the sequences of an iteration had in their KV cache when it began, summed over iterations."""
    attention: float
    """Pairs of a prompt token and a token before it."""

    def seconds(self, model: IterationTime) -> float:
        return (
            model.base_s * self.iterations
            + model.prefill_s * self.prefill
            + model.decode_s * self.decode
            + model.context_s * self.context
            + model.attention_s * self.attention
        )

    def plus(self, other: Content, factor: float = 1.0) -> Content:
        """``self + factor * other``."""
        return Content(*(mine + factor * its for mine, its in zip(self, other, strict=True)))

    def over(self, divisor: float) -> Content:
        return Content(*(mine / divisor for mine in self))


NOTHING = Content(0, 0, 0, 0, 0)


@dataclass(slots=True)
class _Sequence:
    """A request in a slot."""

    prompt_left: int
    answer_left: int
    context: int
    """Tokens in its KV cache."""


def replica_seconds(
    model: IterationTime, *, in_flight: int, new: int, out: int, cached: int = 0, client_waits: bool = False
) -> float:
    """Seconds of replica time per request of one shape, with ``in_flight`` of them always there (closed loop).

    Exact: the loop of equal requests is deterministic, so its state comes back, and what lies between is the answer.
    ``client_waits``: the next request comes from a client that has read the answer, when the next iteration has begun
    without it, unless the replica is idle; otherwise it is there at once.
    Raises ValueError where a request has no new token or no answer, or nothing is in flight.
    """
    _check(in_flight, new, out, cached)
    batch = [_Sequence(new, out, cached) for _ in range(in_flight)]
    batch, coming = (batch[:1], batch[1:]) if client_waits else (batch, [])
    seen: dict[tuple[tuple[int, int], ...], tuple[float, int]] = {}
    elapsed, finished = 0.0, 0
    while True:
        state = (*((sequence.prompt_left, sequence.answer_left) for sequence in batch), (len(coming), 0))
        if state in seen:
            then, finished_then = seen[state]
            return (elapsed - then) / (finished - finished_then)
        seen[state] = (elapsed, finished)
        elapsed += _iterate(model.prefill_budget, batch).seconds(model)
        running = [sequence for sequence in batch if sequence.answer_left]
        done = len(batch) - len(running)
        finished += done
        batch, coming = running + coming, [_Sequence(new, out, cached) for _ in range(done)]
        if not client_waits or not batch:
            batch, coming = batch + coming, []


def completions(
    budget: int, *, in_flight: int, new: int, out: int, cached: int = 0, cold: int = 0
) -> Iterator[Content]:
    """What a replica has done by each completion of a closed loop whose first requests all begin at once, without end.

    As a client that waits for the answer sees it: its next request comes when the next iteration has begun without it,
    unless the replica is idle. ``cold``: so many of the first requests find nothing in the cache. Raises ValueError as
    ``replica_seconds``.
    """
    _check(in_flight, new, out, cached)
    begun = 0

    def request() -> _Sequence:
        nonlocal begun
        begun += 1
        return _Sequence(new + cached, out, 0) if begun <= cold else _Sequence(new, out, cached)

    batch, coming = [request()], [request() for _ in range(in_flight - 1)]
    total = NOTHING
    while True:
        total = total.plus(_iterate(budget, batch))
        batch, answered = [sequence for sequence in batch if sequence.answer_left] + coming, len(batch)
        answered += len(coming) - len(batch)
        for _ in range(answered):
            yield total
        coming = [request() for _ in range(answered)]
        if not batch:
            batch, coming = coming, []


def prefill_content(budget: int, *, new: int, cached: int = 0) -> Content:
    """What the prefill of a request takes with nothing else in flight; its first token comes with it."""
    iterations = -(-new // budget)
    context = sum(cached + number * budget for number in range(iterations))
    return Content(iterations, new, 0, context, new * (cached + new / 2))


def decode_content(*, inputs: int, out: int) -> Content:
    """What the tokens after the first take with nothing else in flight."""
    steps = out - 1
    return Content(steps, 0, steps, steps * inputs + steps * (steps - 1) / 2, 0)


def true_chunk(model: IterationTime, slots: int) -> float:
    """Reference tokens/s of a replica with ``slots`` reference requests in flight."""
    seconds = replica_seconds(model, in_flight=slots, new=REFERENCE_INPUT_TOKENS, out=REFERENCE_OUTPUT_TOKENS)
    return REFERENCE_WORK / seconds


def _check(in_flight: int, new: int, out: int, cached: int) -> None:
    if new < 1 or out < 1 or in_flight < 1 or cached < 0:
        raise ValueError(
            f"nothing to simulate: {in_flight} in flight of {new} new, {cached} cached, {out} output tokens"
        )


def _iterate(prefill_budget: int, batch: list[_Sequence]) -> Content:
    """One iteration: advances every sequence that takes part in it."""
    decoding = [sequence for sequence in batch if sequence.prompt_left == 0]
    context = sum(sequence.context for sequence in decoding)
    for sequence in decoding:
        sequence.context += 1
        sequence.answer_left -= 1
    prefilled = 0
    attention = 0.0
    budget = max(0, prefill_budget - len(decoding))
    for sequence in batch:
        taken = min(sequence.prompt_left, budget - prefilled)
        if taken:
            context += sequence.context
            attention += taken * (sequence.context + taken / 2)
            prefilled += taken
            sequence.context += taken
            sequence.prompt_left -= taken
            if sequence.prompt_left == 0:
                sequence.answer_left -= 1
    return Content(1, prefilled, len(decoding), context, attention)
