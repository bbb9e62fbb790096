"""Chunked coding on its way through: any reads give the same payload, and what goes on as it came is that payload."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.wire.chunked import ChunkedDecoder, whole_chunk
from headrace.wire.errors import ProtocolError

SIZES = st.sampled_from(["%x", "%X", "0%x", "0000%x"])
EXTENSIONS = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b; c"'])
TRAILERS = st.lists(st.sampled_from([b"X-Sum: 1\r\n", b"a:\r\n"]), max_size=2).map(b"".join)
PAYLOADS = st.binary(min_size=1, max_size=40) | st.sampled_from(
    [b"data: {}\n\n", b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n"]
)
CUTS = st.lists(st.integers(0, 2000), max_size=30)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The payload, and its coding."""
    payloads = draw(st.lists(PAYLOADS, max_size=8))
    coded = b""
    for payload in payloads:
        size = (draw(SIZES) % len(payload)).encode()
        coded += b"%b%b\r\n%b\r\n" % (size, draw(EXTENSIONS), payload)
    return b"".join(payloads), coded + draw(st.sampled_from([b"0", b"000"])) + b"\r\n" + draw(TRAILERS) + b"\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(borders)]


def payload_of(framed: bytes) -> bytes:
    """Of whole chunks without extensions, and nothing else. Raises ValueError."""
    payload = b""
    while framed:
        line, _, framed = framed.partition(b"\r\n")
        size = int(line, 16)
        if not size or framed[size : size + 2] != b"\r\n":
            raise ValueError(line)
        payload, framed = payload + framed[:size], framed[size + 2 :]
    return payload


@given(body=bodies(), places=CUTS, surplus=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))
def test_any_reads_give_the_payload_and_what_is_framed_is_just_that(
    body: tuple[bytes, bytes], places: list[int], surplus: bytes
) -> None:
    payload, coded = body
    decoder = ChunkedDecoder()
    read = left = b""
    for piece in cut(coded + surplus, places):
        if decoder.complete:
            left += piece
            continue
        data, framed = decoder.feed(piece)
        if framed is not None:
            assert payload_of(framed) == data
        read += data
    assert decoder.complete
    assert read == payload
    assert decoder.surplus + left == surplus


@given(body=bodies(), places=CUTS, end=st.integers(0, 2000))
def test_a_coding_cut_short_is_never_complete(body: tuple[bytes, bytes], places: list[int], end: int) -> None:
    payload, coded = body
    decoder = ChunkedDecoder()
    read = b"".join(decoder.feed(piece)[0] for piece in cut(coded[: end % len(coded)], places))
    assert not decoder.complete
    assert payload.startswith(read)


@given(body=bodies(), after=CUTS)
def test_chunks_in_a_read_of_their_own_are_passed_on_as_they_came(body: tuple[bytes, bytes], after: list[int]) -> None:
    """Twice, as a size is read otherwise when it is known."""
    payload, coded = body
    for _ in range(2):
        decoder = ChunkedDecoder()
        data, framed = decoder.feed(coded)
        assert data == payload
        if b";" not in coded and payload:
            assert framed is not None
            assert coded.startswith(framed)


@pytest.mark.parametrize(
    "coded",
    [
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r\r\n",
        b"5\r\nhello\nx",
        b"\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"5;a b\r\nhello\r\n",
        b"fffffffffffff\r\n",
        b"5" + b";a" * 200 + b"\r\nhello\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\n x: y\r\n\r\n",
        b"0\r\nx y\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_what_another_reader_might_read_otherwise_is_refused(coded: bytes, size: int) -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(ProtocolError):
        for at in range(0, len(coded), size):
            decoder.feed(coded[at : at + size])


def test_a_trailer_has_a_limit_however_it_comes() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\nx: ")
    with pytest.raises(ProtocolError, match="the trailer of the answer exceeds 8192 bytes"):
        for _ in range(9):
            decoder.feed(b"y" * 1000)


def test_a_trailer_byte_by_byte_is_not_looked_at_over_and_over_beyond_its_limit() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\n")
    line = b"x: %b\r\n" % (b"y" * 1000)
    taken = 0
    with pytest.raises(ProtocolError, match="the trailer of the answer exceeds"):
        for taken in range(100_000):
            decoder.feed(line[taken % len(line) : taken % len(line) + 1])
    assert taken < 9000


@given(st.binary(min_size=5, max_size=300), SIZES, EXTENSIONS, st.integers(0, 320), st.binary(max_size=2))
def test_a_read_of_one_whole_chunk_is_known_as_one(
    payload: bytes, size: str, extension: bytes, at: int, new: bytes
) -> None:
    coded = b"%b%b\r\n%b\r\n" % ((size % len(payload)).encode(), extension, payload)
    begin = whole_chunk(coded)
    assert begin == 0 if extension else coded[begin:-2] == payload
    changed = coded[:at] + new + coded[at + 1 :]
    begin = whole_chunk(changed)
    if begin:
        decoder = ChunkedDecoder()
        read = [decoder.feed(changed[place : place + 1])[0] for place in range(len(changed))]
        assert b"".join(read) == changed[begin:-2]
        assert decoder.at_border


@pytest.mark.parametrize(
    "data",
    [b"", b"0\r\n\r\n", b"5\r\nhello\r\n5\r\nhello\r\n", b"5\r\nhello world", b"-5\r\nhello\r\n", b"00000000\r\n\r\n"],
)
def test_no_other_read_is_taken_for_a_whole_chunk(data: bytes) -> None:
    assert whole_chunk(data) == 0
