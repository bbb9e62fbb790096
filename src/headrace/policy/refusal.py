"""What a refused request is told: which status, why, what was free, and when to come back."""

from __future__ import annotations

from typing import Literal

from headrace.policy.limiter import Limiter
from headrace.policy.routing import Replicas
from headrace.policy.terms import Ask, Reason, Refuse, Terms

SOONEST_RETRY_S = 0.001
"""An answer never says "now": the least that ``retry-after-ms`` can carry."""


def room_in(now: float, work: float, ahead: float, terms: Terms, limiter: Limiter) -> float:
    """Seconds until the limiter would let ``work`` through at once, if nothing else arrived.

    All of ``ahead``, the reference tokens that wait, goes before it, as it does not wait itself. Exact, unless some of
    what waits ends unserved; but nothing waits longer than its deadline.
    """
    emptied = terms.queue_deadline_s + work / terms.rate
    return min(limiter.ready_in(now, work, ahead), max(limiter.ready_in(now, work), emptied))


def slot_in(now: float, ahead: float, terms: Terms, replicas: Replicas) -> float:
    """Seconds until one of the ready replicas is likely to have a slot, behind ``ahead`` reference tokens.

    What the limiter cannot know, so an estimate at the speed of the chunk: k slots share it, so one ends after about a
    k-th of what is outstanding.
    """
    slot = replicas.slot_at(now)
    if slot is not None:
        return slot - now
    behind = min(ahead / len(replicas.ready) / terms.chunk, terms.queue_deadline_s)
    return replicas.share_outstanding() / terms.chunk + behind


def refuse(
    ask: Ask,
    work: float,
    reason: Reason,
    *,
    waited: float,
    queued: int,
    own: int,
    ahead: float,
    free: float,
    retry: float,
    terms: Terms,
) -> Refuse:
    """The answer. Work is in reference tokens, times are in seconds; of ``queued`` requests ``own`` are of its key."""
    why = {
        "queue_full": f"the queue is full ({queued} of {terms.max_queue} requests wait, {own} of them with its key)",
        "rate": f"the range had no room for it in {waited:.1f} s",
        "reject": "it could not be served at once, and this endpoint is set to reject rather than queue",
        "deadline": f"no slot of a replica became free for it in {waited:.1f} s, although the range had room",
        "no_replica": f"no replica was ready at the end of {waited:.1f} s",
        "cold_start": f"no replica became ready in {waited:.1f} s",
    }[reason]
    room = (
        f" Free now: {free:,.0f} of a burst of {terms.burst:,.0f} reference tokens, with {ahead:,.0f} queued ahead, at "
        f"{terms.rate:,.0f} reference tokens/s at most."
    )
    if reason in ("no_replica", "cold_start"):
        room = ""  # whatever the range has: nothing serves it
    message = (
        f"The request asks for about {work:,.0f} reference tokens ({ask.input_tokens:,} input and up to "
        f"{ask.max_output:,} output tokens); {why}.{room} Try again in {retry:.1f} s."
    )
    status: Literal[429, 503] = 503 if reason in ("deadline", "no_replica", "cold_start") else 429
    return Refuse(ask.rid, status, reason, message, retry, work, waited)
