"""What became of a request, with the reason in words."""

from __future__ import annotations

from headrace.bench.client.answer import Answer
from headrace.bench.client.event import LONGEST_TEXT
from headrace.bench.client.flight import Flight
from headrace.bench.client.head import Head
from headrace.bench.client.records import Outcome

BY_STATUS = {429: Outcome.REJECTED, 503: Outcome.UNAVAILABLE}
"""Refusals; every other status but 200 is a failure."""


def verdict(flight: Flight) -> tuple[Outcome, str | None]:
    """With a complete answer, the text is what is remarkable about it, if anything is."""
    if flight.cut_off:
        return Outcome.UNFINISHED, None
    if flight.fault is not None:
        return (Outcome.TIMED_OUT if flight.timed_out else Outcome.FAILED), _failed(flight, flight.fault)
    head, answer = flight.head, flight.answer
    assert head is not None and answer is not None
    if head.status != 200:
        return BY_STATUS.get(head.status, Outcome.FAILED), _refused(head, answer)
    fault = _incomplete(head, answer)
    if fault is not None:
        return Outcome.FAILED, fault
    return Outcome.OK, _remark(flight, head, answer)


def _failed(flight: Flight, fault: str) -> str:
    if not flight.timed_out:
        return fault
    if flight.head is None:
        return f"{fault}: the server said nothing" if flight.connected else fault
    if flight.answer is not None and flight.answer.times:
        return f"{fault}: the stream did not end"
    return f"{fault}: the answer began, and brought no token"


def _refused(head: Head, answer: Answer) -> str:
    if head.location is not None and 300 <= head.status < 400:
        return (
            f"{head.status}: the server sends clients on to {head.location[:LONGEST_TEXT]!r}; put the load on that URL"
        )
    return f"{head.status}: {answer.error or 'no reason given'}"


def _incomplete(head: Head, answer: Answer) -> str | None:
    """What is missing in an answer with status 200."""
    if answer.error is not None:
        return answer.error if head.is_stream else f"the answer is not JSON as the API has it: {answer.error}"
    if answer.finished:
        return None
    if not answer.times and not answer.done:
        return "the stream ended without a token"
    return "the stream ended without a finish reason" + ("" if answer.done else " and without [DONE]")


def _remark(flight: Flight, head: Head, answer: Answer) -> str | None:
    if flight.asked_stream and not head.is_stream:
        return "the server does not stream: asked for a stream, it answered with one JSON body"
    told = None if answer.usage is None else answer.usage.output_tokens
    if told is not None and head.is_stream and told < len(answer.times):
        return "the server's usage is less than the events that carried tokens"
    if 0 <= flight.asked_output < (len(answer.times) if told is None else told):
        return "the server gave more tokens than it was asked for at most (max_tokens)"
    if head.is_stream and not answer.done:
        return "the stream ended without [DONE]"
    return None
