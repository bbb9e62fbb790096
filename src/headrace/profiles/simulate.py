"""Replica seconds of an engine that follows an iteration-time model exactly: the truth of the simulated engine.

The replica works in iterations (continuous batching with chunked prefill). In one, every decoding sequence gets a
token; what they leave of the budget of tokens goes to prompts, first come, first served; a sequence whose prompt ends
in it gets its first token. ``engines.simulated.batching`` does the same with requests that come and go; a test holds
the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS, REFERENCE_WORK
from headrace.profiles.profile import IterationTime


@dataclass(slots=True)
class _Sequence:
    """A request in a slot."""

    prompt_left: int
    answer_left: int
    context: int
    """Tokens in its KV cache."""


def replica_seconds(model: IterationTime, *, in_flight: int, new: int, out: int, cached: int = 0) -> float:
    """Seconds of replica time per request of one shape, with ``in_flight`` of them always there (closed loop).

    Exact: the loop of equal requests is deterministic, so its state comes back, and what lies between is the answer.
    Raises ValueError where a request has no new token or no answer, or nothing is in flight.
    """
    if new < 1 or out < 1 or in_flight < 1 or cached < 0:
        raise ValueError(
            f"nothing to simulate: {in_flight} in flight of {new} new, {cached} cached, {out} output tokens"
        )
    batch = [_Sequence(new, out, cached) for _ in range(in_flight)]
    seen: dict[tuple[tuple[int, int], ...], tuple[float, int]] = {}
    elapsed, finished = 0.0, 0
    while True:
        state = tuple((sequence.prompt_left, sequence.answer_left) for sequence in batch)
        if state in seen:
            then, finished_then = seen[state]
            return (elapsed - then) / (finished - finished_then)
        seen[state] = (elapsed, finished)
        elapsed += _iterate(model, batch)
        running = [sequence for sequence in batch if sequence.answer_left]
        done = len(batch) - len(running)
        finished += done
        batch = running + [_Sequence(new, out, cached) for _ in range(done)]


def true_chunk(model: IterationTime, slots: int) -> float:
    """Reference tokens/s of a replica with ``slots`` reference requests in flight."""
    seconds = replica_seconds(model, in_flight=slots, new=REFERENCE_INPUT_TOKENS, out=REFERENCE_OUTPUT_TOKENS)
    return REFERENCE_WORK / seconds


def _iterate(model: IterationTime, batch: list[_Sequence]) -> float:
    """One iteration: advances every sequence that takes part in it, and returns its seconds."""
    decoding = [sequence for sequence in batch if sequence.prompt_left == 0]
    context = sum(sequence.context for sequence in decoding)
    for sequence in decoding:
        sequence.context += 1
        sequence.answer_left -= 1
    prefilled = 0
    budget = max(0, model.prefill_budget - len(decoding))
    for sequence in batch:
        taken = min(sequence.prompt_left, budget - prefilled)
        if taken:
            context += sequence.context
            prefilled += taken
            sequence.context += taken
            sequence.prompt_left -= taken
            if sequence.prompt_left == 0:
                sequence.answer_left -= 1
    return model.seconds(prefilled, len(decoding), context)
