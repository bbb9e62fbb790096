"""Servers that do not do as they should: each is an outcome with words, and never a hang, a traceback or a flood."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from pathlib import Path

import numpy as np
import pytest
import uvloop
from misbehaving import (
    DONE,
    END,
    FINISH,
    GOOD,
    STREAM,
    Answer,
    always,
    chunk,
    client_spec,
    run_here,
    serving,
    token,
    usage,
    whole,
)

from headrace.bench.client.records import Outcome, Records
from headrace.bench.client.sender import why_not_connected
from headrace.bench.workload.spec import Amount, Constant, Content

NOT_JSON = "an event of the stream is not JSON as the API has it"
MALFORMED = "malformed size line in the answer's chunked coding"
NO_API = "the answer is not JSON as the API has it"
TOO_MANY = "the server gave more tokens than it was asked for at most (max_tokens)"

ONE = Amount(requests=1)
MESSAGE = b'{"error":{"message":"the words of the server","type":"t","code":"c"}}'
ANSWER = b'{"choices":[{"text":" a b","finish_reason":"length"}],"usage":{"prompt_tokens":8,"completion_tokens":2}}'


def answered(answer: Answer, directory: Path, **changes: object) -> Records:
    """One request, unless said otherwise; in the event loop that workers have."""

    async def ask() -> Records:
        async with serving(answer) as url:
            return await run_here(client_spec(url, **{"amount": ONE, **changes}), directory)

    return uvloop.run(ask())


def only(records: Records) -> tuple[Outcome, str | None]:
    """Outcome and words of the one request."""
    (request,) = records.requests
    words = None if request["error"] < 0 else records.errors[request["error"]]
    return Outcome(request["outcome"]), words


@pytest.mark.parametrize(
    ("sent", "outcome", "words"),
    [
        (whole("401 Unauthorized", MESSAGE), Outcome.FAILED, "401: the words of the server"),
        (whole("403 Forbidden", b'{"error_code":"P","message":"not yours"}'), Outcome.FAILED, "403: not yours"),
        (whole("429 Too Many Requests", MESSAGE), Outcome.REJECTED, "429: the words of the server"),
        (whole("503 Service Unavailable", MESSAGE), Outcome.UNAVAILABLE, "503: the words of the server"),
        (whole("500 Internal Server Error", b"<h1>Oops</h1>"), Outcome.FAILED, "500: <h1>Oops</h1>"),
        (whole("500 Internal Server Error", b""), Outcome.FAILED, "500: no body"),
        (whole("422 No", b'{"detail":[{"msg":"too short","input":"a prompt"}]}'), Outcome.FAILED, "422: too short"),
        (whole("404 Not Found", b'{"detail":"Not Found"}'), Outcome.FAILED, "404: Not Found"),
        (whole("404 No", b'{"object":"error","message":"no model","code":404}'), Outcome.FAILED, "404: no model"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome.FAILED, "204: no body"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_the_words_of_the_server(
    sent: bytes, outcome: Outcome, words: str, tmp_path: Path
) -> None:
    assert only(answered(always(sent), tmp_path)) == (outcome, words)


def test_no_redirect_is_followed(tmp_path: Path) -> None:
    asked = 0

    async def elsewhere(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(whole("307 Temporary Redirect", b"", b"location: /elsewhere\r\n"))

    outcome, words = only(answered(elsewhere, tmp_path))
    assert outcome is Outcome.FAILED and asked == 1
    assert words == "307: the server sends clients on to '/elsewhere'; put the load on that URL"


def test_a_key_that_a_server_repeats_is_not_kept(tmp_path: Path) -> None:
    body = b'{"error":{"message":"incorrect key sk-secret-1 provided"}}'
    records = answered(always(whole("401 Unauthorized", body)), tmp_path, key="sk-secret-1")
    assert only(records)[1] == "401: incorrect key *** provided"
    assert b"sk-secret-1" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (STREAM + chunk(token() + b"data: {oops\n\n" + FINISH + DONE) + END, NOT_JSON),
        (STREAM + chunk(token() + b'data: {"choices":"none"}\n\n' + DONE) + END, NOT_JSON),
        (STREAM + chunk(token() + b'{"choices":[]}\n\n') + END, "the stream holds JSON outside of events"),
        (STREAM + chunk(token()) + END, "the stream ended without a finish reason and without [DONE]"),
        (STREAM + chunk(token() + DONE) + END, "the stream ended without a finish reason"),
        (STREAM + END, "the stream ended without a token"),
        (STREAM + chunk(token() + b"data: " + MESSAGE + b"\n\n" + DONE) + END, "the words of the server"),
        (STREAM + chunk(token()) + b"zz\r\n" + token() + b"\r\n" + END, MALFORMED),
        (STREAM + b"5\r\nabcdefgh\r\n" + END, "a chunk of the answer's body does not end where it should"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "the answer has a transfer coding other than chunked"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000, "the head of the answer does not end within 64 KiB"),
        (whole("200 OK", b"all is well"), f"{NO_API}: all is well"),
        (whole("200 OK", b"{}"), f"{NO_API}: an error without a message"),
        (whole("200 OK", MESSAGE), f"{NO_API}: the words of the server"),
        (whole("200 OK", b"[" * 5000), f"{NO_API}: {'[' * 200}"),
        (STREAM + chunk(b"data: " + b"[" * 5000 + b"\n\n") + END, NOT_JSON),
    ],
)  # fmt: skip
def test_a_broken_answer_fails_with_what_is_broken(sent: bytes, words: str, tmp_path: Path) -> None:
    assert only(answered(always(sent), tmp_path)) == (Outcome.FAILED, words)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the server closed the connection before any answer"),
        (b"HTTP/1.1 200 OK\r\ncont", "the server closed the connection before any answer"),
        (STREAM, "the server closed the connection before the answer was complete"),
        (STREAM + chunk(token()) + b"40\r\ndata", "the server closed the connection before the answer was complete"),
        (whole("200 OK", ANSWER)[:-10], "the server closed the connection before the answer was complete"),
    ],
)
def test_a_connection_that_is_dropped_midway_fails(sent: bytes, words: str, tmp_path: Path) -> None:
    records = answered(always(sent, then_close=True), tmp_path, amount=Amount(requests=3))
    assert set(records.requests["outcome"]) == {Outcome.FAILED}
    assert records.errors == (words,)


def test_events_that_came_before_a_connection_was_dropped_are_kept(tmp_path: Path) -> None:
    records = answered(always(STREAM + chunk(token() + token()), then_close=True), tmp_path)
    assert only(records)[0] is Outcome.FAILED
    assert records.requests["events"].tolist() == [2] and len(records.event_s) == 2


def test_a_refused_connection_is_told_as_such_and_not_tried_at_full_speed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    spec = client_spec(f"http://127.0.0.1:{port}", amount=Amount(duration_s=0.35))
    records = uvloop.run(run_here(spec, tmp_path))
    assert set(records.requests["outcome"]) <= {Outcome.FAILED, Outcome.UNFINISHED}
    assert records.errors == (f"no connection to 127.0.0.1:{port}: Connection refused",)
    assert 2 <= len(records.requests) <= 5


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EMFILE, "raise the limit"), (errno.EADDRNOTAVAIL, "no port left to connect from")]
)
def test_a_connection_that_this_machine_does_not_allow_is_no_fault_of_the_server(number: int, words: str) -> None:
    assert words in why_not_connected(OSError(number, "in the words of the system"))


def test_a_server_that_speaks_no_tls_is_told_as_such(tmp_path: Path) -> None:
    async def ask() -> Records:
        async with serving(always(b"nonsense\r\n\r\n")) as url:
            secure = url.replace("http:", "https:")
            return await run_here(client_spec(secure, amount=ONE, connect_timeout_s=0.5), tmp_path)

    outcome, words = only(uvloop.run(ask()))
    assert outcome is Outcome.FAILED and words is not None and words.startswith("no connection to 127.0.0.1:")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no complete answer within 0.3 s: the server said nothing"),
        (STREAM + chunk(b": wait\n\n"), "no complete answer within 0.3 s: the answer began, and brought no token"),
        (STREAM + chunk(token()), "no complete answer within 0.3 s: the stream did not end"),
    ],
)
def test_a_server_that_falls_silent_is_given_up_in_time(sent: bytes, words: str, tmp_path: Path) -> None:
    records = answered(always(sent), tmp_path, timeout_s=0.3)
    assert only(records) == (Outcome.TIMED_OUT, words)
    (request,) = records.requests
    assert 0.3 <= request["end_s"] - request["sent_s"] < 5


def test_a_silent_server_is_not_waited_for_when_the_run_is_over(tmp_path: Path) -> None:
    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    records = answered(silent, tmp_path, amount=Amount(requests=2), timeout_s=0.2)
    assert set(records.requests["outcome"]) == {Outcome.TIMED_OUT}


@pytest.mark.parametrize(
    ("begin", "piece", "words"),
    [
        (STREAM, chunk(b"x" * 65_536), "an event of the stream does not end within 1 MiB"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536, "the body of the answer exceeds 16384 KiB"),
        (b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65_536, "the body of the answer exceeds 64 KiB"),
        (STREAM, chunk(token() * 500), "the stream does not end within 1000000 events"),
    ],
)
def test_an_answer_without_end_is_cut_off_before_it_fills_the_memory(
    begin: bytes, piece: bytes, words: str, tmp_path: Path
) -> None:
    async def endless(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()

    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = answered(endless, tmp_path)
    assert only(records) == (Outcome.FAILED, words)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before_kib + 120_000


def test_a_stream_asked_for_and_a_whole_answer_given_is_usable_and_remarked(tmp_path: Path) -> None:
    records = answered(always(whole("200 OK", ANSWER)), tmp_path)
    assert only(records) == (
        Outcome.OK,
        "the server does not stream: asked for a stream, it answered with one JSON body",
    )
    (request,) = records.requests
    assert np.isnan(request["first_s"]) and request["last_s"] == request["end_s"]
    assert request["output_tokens"] == 2 and records.event_tokens.tolist() == [2]


def test_a_whole_answer_that_was_asked_for_is_remarked_by_nobody(tmp_path: Path) -> None:
    content = Content(stream=False, force_length=False)
    assert only(answered(always(whole("200 OK", ANSWER)), tmp_path, content=content)) == (Outcome.OK, None)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (token() + FINISH + usage(1), "the stream ended without [DONE]"),
        (token() * 4 + FINISH + usage(3) + DONE, "the server's usage is less than the events that carried tokens"),
        (token() * 9 + FINISH + usage(9) + DONE, TOO_MANY),
        (token() * 9 + FINISH + DONE, TOO_MANY),
    ],
)  # fmt: skip
def test_a_complete_answer_with_something_odd_about_it_is_ok_and_remarked(
    events: bytes, words: str, tmp_path: Path
) -> None:
    assert only(answered(always(STREAM + chunk(events) + END), tmp_path)) == (Outcome.OK, words)


@pytest.mark.parametrize("lie", [b'"many"', b"-4", b"1e300", b"99999999999999999999", b"[]", b"null", b"true"])
def test_a_usage_that_is_no_number_of_tokens_is_no_usage(lie: bytes, tmp_path: Path) -> None:
    event = b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":%b}}\n\n' % lie
    records = answered(always(STREAM + chunk(token() * 2 + FINISH + event + DONE) + END), tmp_path)
    assert only(records) == (Outcome.OK, None)
    assert records.requests["counted"].tolist() == [False] and records.requests["output_tokens"].tolist() == [2]


def test_bytes_after_an_answer_cost_the_connection_and_not_the_next_request(tmp_path: Path) -> None:
    records = answered(always(GOOD + b"HTTP/1.1 500 surprise\r\n\r\n"), tmp_path, amount=Amount(requests=3))
    assert set(records.requests["outcome"]) == {Outcome.OK}
    assert records.requests["new_connection"].all()


def test_line_ends_after_an_answer_do_not_hide_its_end(tmp_path: Path) -> None:
    records = answered(always(GOOD + b"\r\n"), tmp_path, amount=Amount(requests=3))
    assert set(records.requests["outcome"]) == {Outcome.OK}


def test_connections_that_are_closed_at_once_are_failures_in_words(tmp_path: Path) -> None:
    async def ask() -> Records:
        server = await asyncio.start_server(lambda reader, writer: writer.transport.abort(), "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            arrivals, amount = Constant(500.0), Amount(requests=100)
            return await run_here(client_spec(url, arrivals=arrivals, amount=amount), tmp_path)

    records = uvloop.run(ask())
    assert records.requests["outcome"].tolist() == [Outcome.FAILED] * 100
    assert all("closed" in error or "reset" in error for error in records.errors)


def test_a_connection_closed_while_it_was_idle_costs_no_request(tmp_path: Path) -> None:
    async def closing(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD)
        await writer.drain()
        writer.close()

    records = answered(closing, tmp_path, amount=Amount(requests=5))
    assert set(records.requests["outcome"]) == {Outcome.OK}


def test_nothing_is_sent_again_unless_asked_for(tmp_path: Path) -> None:
    asked = 0

    async def refuse_first(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(GOOD if asked > 1 else whole("429 Too Many Requests", MESSAGE, b"retry-after-ms: 1\r\n"))

    records = answered(refuse_first, tmp_path)
    assert only(records)[0] is Outcome.REJECTED and asked == 1


@pytest.mark.parametrize(
    ("fields", "least_s"), [(b"retry-after-ms: 150\r\nretry-after: 9\r\n", 0.15), (b"retry-after: 0.2\r\n", 0.2)]
)
def test_a_retry_waits_as_long_as_the_server_says_and_counts_from_when_it_was_due(
    fields: bytes, least_s: float, tmp_path: Path
) -> None:
    asked = 0

    async def refuse_first(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(GOOD if asked > 1 else whole("503 Service Unavailable", MESSAGE, fields))

    records = answered(refuse_first, tmp_path, retries=3)
    (request,) = records.requests
    assert Outcome(request["outcome"]) is Outcome.OK and request["retries"] == 1
    assert request["status"] == 200
    assert least_s <= request["sent_s"] - request["scheduled_s"] < least_s + 3
