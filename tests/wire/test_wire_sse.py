from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.wire.sse import EventCounter, EventSplitter

streams = st.lists(
    st.sampled_from([b"data: a", b"data: {}", b": ping", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r", b"x"])
).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_events_come_out_whole_with_their_blank_line(end: bytes) -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1" + end + b"event: x\ndata: 2" + end[:1]) == [b"data: 1" + end]
    assert splitter.feed(end[1:] + b"data") == [b"event: x\ndata: 2" + end]
    assert splitter.rest == b"data"


@given(streams, st.lists(st.integers(0, 200), max_size=20))
def test_however_a_stream_is_cut_its_events_and_their_count_are_the_same(data: bytes, places: list[int]) -> None:
    whole = EventSplitter()
    events = whole.feed(data)
    assert b"".join(events) + whole.rest == data
    splitter, counter = EventSplitter(), EventCounter()
    split: list[bytes] = []
    for piece in cut(data, places):
        ended = splitter.feed(piece)
        assert counter.feed(piece) == len(ended)
        split += ended
    assert split == events and splitter.rest == whole.rest and counter.count == len(events)
