"""The request parser on bytes that nobody thought of: it refuses or it serves, however they arrive, and what it serves
it frames as strict parsers do. ``HEADRACE_FUZZ_S`` makes it longer, ``HEADRACE_FUZZ_SEED`` another."""

from __future__ import annotations

import h11
import httptools
from wire_mutations import cut, streams
from wire_reference import Framed, by_h11, by_httptools, ours

from headrace.wire.request_parser import BadRequest, Limits, RequestParser

LIMITS = Limits(head_bytes=2000, head_fields=50, body_bytes=1000)


def test_a_stream_gives_the_same_requests_and_the_same_refusal_however_it_is_cut() -> None:
    tried = served = 0
    for rng, data in streams("cuts"):
        whole = ours([data], LIMITS)
        pieces = cut(rng, data)
        assert ours(pieces, LIMITS) == whole, (data, pieces)
        tried += 1
        served += len(whole.requests)
    assert tried > 100 and served > 10  # else it tests nothing


def test_every_request_that_is_served_ends_where_strict_parsers_end_it() -> None:
    agreed = 0
    for _, data in streams("references"):
        for span, request in spans(data):
            assert not disagreement(span, request), (span, request)
            agreed += 1
    assert agreed > 50


def spans(data: bytes) -> list[tuple[bytes, Framed]]:
    """Each request with exactly its bytes."""
    parser = RequestParser(LIMITS)
    parser.feed(data)
    found: list[tuple[bytes, Framed]] = []
    left = len(data)
    try:
        while (request := parser.next()) is not None:
            span = data[len(data) - left : len(data) - parser.buffered]
            left = parser.buffered
            found.append((span, Framed(request.method, request.target, tuple(request.headers), request.body)))
    except BadRequest:
        pass
    return found


def disagreement(span: bytes, request: Framed) -> str:
    """What a reference parser makes of the bytes of one request otherwise; nothing where all agree."""
    span = span.lstrip(b"\r\n")  # h11 knows no empty lines before a request
    try:
        (by_other,) = by_h11(span, 1)
    except h11.RemoteProtocolError as error:
        return f"h11 refuses it: {error}"
    if alike(by_other) != alike(request):
        return f"h11 reads {by_other}"
    if b"upgrade" in dict(request.headers):
        return ""  # httptools would stop at the head
    try:
        (by_other,) = by_httptools(span, 1)
    except httptools.HttpParserError as error:
        return f"httptools refuses it: {error}"
    if (by_other.method, by_other.body) != (request.method, request.body):
        return f"httptools reads {by_other}"
    return ""


def alike(request: Framed) -> Framed:
    """Without what h11 writes in another way: the coding in lower case, and the absolute form as it came."""
    target = request.target
    headers = [(name, value) for name, value in request.headers if name not in (b"host", b"transfer-encoding")]
    if "://" in target.split("?")[0]:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return Framed(request.method, target, tuple(headers), request.body)
