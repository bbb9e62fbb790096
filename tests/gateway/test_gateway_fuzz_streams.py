"""Streams of engines in any reads: the client gets the same bytes, and the account the same tokens."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_mutations import FUZZ_S

from headrace.gateway.engine_error import EngineError
from headrace.gateway.meter import Meter
from headrace.gateway.progress_stream import ProgressStream
from headrace.gateway.relay import Answer, RawBody, RawStream
from headrace.gateway.usage import UsageShown
from headrace.wire.errors import WireError

THOROUGH = settings(deadline=None, max_examples=int(max(100, 50 * FUZZ_S)))
CUTS = st.lists(st.integers(0, 4000), max_size=40)
texts = st.text(max_size=12) | st.sampled_from(
    ['"usage": {', "\n\n", "\r\n\r\n", "[DONE]", "data: [DONE]", '"timings":{}']
)
counts = st.integers(0, 9999)


TOLD = ("cached_tokens", "exact", "first_byte_at", "input_tokens", "output_tokens", "processed_tokens")
"""By a meter."""


def event(members: dict[str, Any], end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(members, separators=(",", ":")).encode() + end


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": {"cached_tokens": 1}}


content = texts.map(lambda text: event({"choices": [{"index": 0, "delta": {"content": text}}]}))
told = st.builds(lambda a, b: event({"choices": [], "usage": usage(a, b)}), counts, counts)
told_with_choices = st.builds(lambda a, b: event({"choices": [{}], "usage": usage(a, b)}), counts, counts)
null_usage = texts.map(lambda text: event({"choices": [{"text": text}], "usage": None}))
progress = counts.map(
    lambda done: event({"choices": [], "prompt_progress": {"total": 9, "cache": 2, "processed": done}})
)
timed = st.builds(
    lambda text, n: (
        b'data: {"choices":[{"text":%b}],"timings":{"predicted_n":%d}}\n\n' % (json.dumps(text).encode(), n)
    ),
    texts,
    counts,
)
DONE = b"data: [DONE]\n\n"

streams = st.builds(
    lambda events, last, done: b"".join([*events, *last, done]),
    st.lists(content | null_usage | told_with_choices, max_size=8),
    st.lists(told, max_size=1),
    st.sampled_from([DONE, b"", b"data: {}", b"data:[DONE]\n\n"]),
)
progress_streams = st.builds(
    lambda events, last, done: b"".join([*events, *last, done]),
    st.lists(content | progress | timed | null_usage, max_size=8),
    st.lists(told, max_size=1),
    st.sampled_from([DONE, b""]),
)
soup = st.lists(
    st.sampled_from(
        [b"data: ", b"{", b"}", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b'"usage": {', b"[DONE]", b": c", b"x"]
    )
).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(borders)]


def passed_on(answer: Answer, pieces: list[bytes]) -> tuple[bytes, str]:
    """What a client gets of these reads, and how it ends; as a flight does it."""
    sent = b""
    try:
        for piece in pieces:
            sent += answer.feed(piece)
            if answer.done:
                return sent, "done"
        return sent + answer.end(), "end"
    except (WireError, EngineError) as error:
        return sent, type(error).__name__


def account(meter: Meter) -> dict[str, object]:
    return {name: getattr(meter, name) for name in TOLD}


Make = Callable[[Meter], Answer]


@pytest.mark.parametrize("usage", UsageShown)
@THOROUGH
@given(data=streams, places=CUTS)
def test_a_raw_stream_is_the_same_however_it_is_cut(data: bytes, places: list[int], usage: UsageShown) -> None:
    agree(lambda meter: RawStream(meter, usage), data, places)


@pytest.mark.parametrize("usage", UsageShown)
@THOROUGH
@given(data=progress_streams, places=CUTS)
def test_a_stream_with_progress_is_the_same_however_it_is_cut(
    data: bytes, places: list[int], usage: UsageShown
) -> None:
    agree(lambda meter: ProgressStream(meter, usage), data, places)


@THOROUGH
@given(data=streams | soup, places=CUTS)
def test_what_is_not_streamed_is_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    agree(RawBody, data, places)


@THOROUGH
@given(data=soup, places=CUTS)
def test_bytes_that_are_no_events_go_through_as_they_came(data: bytes, places: list[int]) -> None:
    for pieces in ([data], cut(data, places)):
        sent, end = passed_on(RawStream(Meter(), UsageShown.AS_IT_COMES), pieces)
        assert data.startswith(sent) if end == "done" else sent == data


@THOROUGH
@given(data=streams, places=CUTS)
def test_a_client_that_did_not_ask_for_the_usage_misses_nothing_else(data: bytes, places: list[int]) -> None:
    kept, _ = passed_on(RawStream(Meter(), UsageShown.AS_IT_COMES), cut(data, places))
    without, _ = passed_on(RawStream(Meter(), UsageShown.NO), cut(data, places))
    ours = [one for one in kept.split(b"\n\n") if b'"choices":[],"usage":{"prompt' not in one]
    assert without == b"\n\n".join(ours)


def agree(make: Make, data: bytes, places: list[int]) -> None:
    whole, parts, bytewise = Meter(), Meter(), Meter()
    sent = passed_on(make(whole), [data])
    assert passed_on(make(parts), cut(data, places)) == sent
    assert account(parts) == account(whole)
    assert passed_on(make(bytewise), [data[i : i + 1] for i in range(len(data))]) == sent
    assert account(bytewise) == account(whole)
