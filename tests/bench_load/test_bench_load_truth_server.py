"""The server that knows the truth: its own record is right, whatever a client does."""

from __future__ import annotations

import http.client
import json
import socket
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import Answers
from server_process import TruthServer
from truth import Truth

WITHIN_S = 20.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TruthServer]:
    found = TruthServer()
    await found.start(tmp_path, ())
    yield found
    await found.stop()


def request_body(**members: Any) -> bytes:
    return json.dumps({"model": "bench", "stream": True, "stream_options": {"include_usage": True}, **members}).encode()


def stream(server: TruthServer, body: bytes, request_id: str = "") -> tuple[list[dict[str, Any]], str, int, int]:
    """One answer: its events, its id in the header, when the request was sent and when the last byte was there."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_S)
    sent_ns = time.monotonic_ns()
    connection.request("POST", "/v1/chat/completions", body, {"X-Request-ID": request_id})
    response = connection.getresponse()
    data = response.read()
    done_ns = time.monotonic_ns()
    connection.close()
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]], str(response.headers["x-request-id"]), sent_ns, done_ns


def end(server: TruthServer, folder: Path) -> Truth:
    return server.end(folder / "truth.npz")


def test_arrival_and_first_event_lie_between_what_the_client_saw(server: TruthServer, tmp_path: Path) -> None:
    server.begin(Answers(events=4))
    _, _, sent_ns, done_ns = stream(server, request_body())
    truth = end(server, tmp_path)
    assert sent_ns < truth.arrival_ns[0] < truth.first_ns[0] < done_ns
    assert truth.served_s[0] == pytest.approx((truth.first_ns[0] - truth.arrival_ns[0]) / 1e9)


def test_a_request_has_arrived_when_its_last_byte_has(server: TruthServer, tmp_path: Path) -> None:
    server.begin(Answers(events=2))
    body = request_body(messages="x" * 100)
    with socket.create_connection(("127.0.0.1", server.port), WITHIN_S) as sock:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        sock.sendall(head + body[:50])
        assert server.counts().arrived == 0  # asked on another connection, and so after the first half was read
        before_ns = time.monotonic_ns()
        sock.sendall(body[50:])
        sock.recv(1)
    assert end(server, tmp_path).arrival_ns[0] > before_ns


def test_tokens_are_those_of_the_usage_also_where_an_event_has_several(server: TruthServer, tmp_path: Path) -> None:
    told = Answers(events=5, tokens_an_event=3)
    server.begin(told)
    events, *_ = stream(server, request_body())
    truth = end(server, tmp_path)
    texts = [event["choices"][0]["delta"]["content"] for event in events if event["choices"]]
    assert [text.count(" sim") for text in texts] == [3] * 5
    assert events[-1]["usage"]["completion_tokens"] == told.tokens == truth.tokens[0] == 15


def test_usage_is_told_to_those_who_ask_for_it(server: TruthServer) -> None:
    server.begin(Answers(events=3))
    events, *_ = stream(server, request_body(stream_options=None))
    assert len(events) == 3 and all("usage" not in event for event in events)


def test_events_that_are_paced_are_each_handed_over_alone_and_in_their_time(
    server: TruthServer, tmp_path: Path
) -> None:
    server.begin(Answers(events=10, interval_s=0.01))
    _, _, sent_ns, done_ns = stream(server, request_body())
    truth = end(server, tmp_path)
    assert truth.write_events.tolist() == [1] * 10
    times = [sent_ns, *truth.write_ns.tolist(), done_ns]
    assert times == sorted(times)
    assert (truth.write_ns[-1] - truth.write_ns[0]) / 1e9 > 8 * 0.01  # nine intervals; each may begin late


def test_answers_are_found_by_their_id_and_requests_by_theirs_and_by_their_body(
    server: TruthServer, tmp_path: Path
) -> None:
    server.begin(Answers(events=2))
    bodies = [request_body(user=name) for name in ("a", "b", "c")]
    for place, body in enumerate(bodies):
        events, answer_id, *_ = stream(server, body, f"r-{place}")
        assert answer_id == events[0]["id"] == f"chatcmpl-{place:08d}"
    truth = end(server, tmp_path)
    assert truth.request_ids.tolist() == ["r-0", "r-1", "r-2"]
    assert truth.body_crc.tolist() == [zlib.crc32(body) for body in bodies]


def test_a_client_that_leaves_is_not_credited_with_the_events_it_was_not_sent(
    server: TruthServer, tmp_path: Path
) -> None:
    server.begin(Answers(events=20, interval_s=0.005))
    body = request_body()
    with socket.create_connection(("127.0.0.1", server.port), WITHIN_S) as sock:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        sock.sendall(head + body)
        sock.recv(1)
    stream(server, body)  # takes as long as the first one would have
    truth = end(server, tmp_path)
    assert 1 <= truth.tokens[0] < 20 and truth.tokens[1] == 20
    assert np.sum(truth.write_request == 0) == truth.tokens[0]


def test_a_client_that_does_not_read_in_time_is_noticed(server: TruthServer, tmp_path: Path) -> None:
    server.begin(Answers(events=64, interval_s=0.002))
    body = request_body()
    with socket.create_connection(("127.0.0.1", server.port), WITHIN_S) as sock:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        sock.sendall(head + body)
        stream(server, body)  # meanwhile the first is sent events that nobody reads
        counts = server.counts()
    assert 0 < counts.unread <= counts.looked


def test_an_answer_larger_than_the_kernel_takes_at_once_arrives_whole(server: TruthServer) -> None:
    server.begin(Answers(events=30_000))
    events, *_ = stream(server, request_body())
    assert len(events) == 30_001  # the usage


def test_without_a_record_requests_and_events_are_still_counted(server: TruthServer, tmp_path: Path) -> None:
    server.begin(Answers(events=4, record=False))
    stream(server, request_body())
    counts = server.counts()
    assert (counts.arrived, counts.finished, counts.events, counts.writes) == (1, 1, 4, 1)
    assert len(end(server, tmp_path).arrival_ns) == 0


def test_a_measurement_begins_with_nothing_of_the_last(server: TruthServer, tmp_path: Path) -> None:
    server.begin(Answers(events=4))
    stream(server, request_body())
    server.begin(Answers(events=2))
    _, answer_id, *_ = stream(server, request_body())
    assert answer_id == "chatcmpl-00000000"
    assert end(server, tmp_path).tokens.tolist() == [2]
