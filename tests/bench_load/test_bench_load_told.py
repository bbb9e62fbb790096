"""What clients tell is read from what they write, and held against the truth."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import byte_tokenizer
import msgspec
import numpy as np
import pytest
from answers import Answers
from environments import Environment
from headrace_client import specification
from headrace_row import Headrace
from measure import compare, lateness_s
from peer_rows import Locust, aiperf_told, guidellm_told
from plan import Load, Plan
from tokenizers import Tokenizer
from told import Told, by_answer_id, by_body, by_request_id
from truth import Truth

from headrace.bench.client.records import REQUEST, Outcome
from headrace.bench.workload.source import open_workload

SECOND = 1_000_000_000


def truth(
    *, arrival_s: list[float], first_s: list[float], tokens: list[int], ids: list[str] = (), crcs: list[int] = ()
) -> Truth:
    count = len(arrival_s)
    return Truth(
        arrival_ns=np.array(arrival_s) * SECOND,
        body_crc=np.array(crcs or [0] * count),
        request_ids=np.array(ids or [""] * count),
        tokens=np.array(tokens, np.uint64),
        write_request=np.arange(count).repeat(2),
        write_ns=np.array([(first, first + 1) for first in first_s]).flatten() * SECOND,
        write_events=np.ones(2 * count),
    )


THREE = truth(arrival_s=[10.0, 11.0, 12.0], first_s=[10.5, 11.25, 12.125], tokens=[16, 16, 16], ids=["a", "b", "c"])


def told(request: list[int], ttft_s: list[float], tokens: list[int], planned_s: list[float] | None = None) -> Told:
    planned_ns = None if planned_s is None else (np.array(planned_s) * SECOND).astype(np.int64)
    return Told(np.array(request), np.array(ttft_s), np.array(tokens), planned_ns)


def test_the_server_s_own_part_is_from_the_whole_request_to_its_first_event() -> None:
    assert THREE.served_s.tolist() == [0.5, 0.25, 0.125]


def test_added_ttft_is_what_the_client_tells_above_the_server_s_own_part() -> None:
    figures = compare(told([2, 0], [0.125 + 0.001, 0.5 + 0.003], [16, 16]), THREE, None)
    assert figures["added_ttft_p50_us"] == pytest.approx(2000)


def test_answers_with_another_number_of_tokens_than_were_sent_are_counted() -> None:
    figures = compare(told([0, 1, 2], [1.0, 1.0, 1.0], [16, 17, 4]), THREE, None)
    assert (figures["told"], figures["wrong_tokens"]) == (3, 2)


def test_lateness_is_against_the_plan_that_a_client_tells() -> None:
    late = lateness_s(told([0, 1, 2], [1.0] * 3, [16] * 3, planned_s=[10.0, 10.5, 12.0]), THREE, rate=1.0)
    assert late.tolist() == pytest.approx([0, 0.5, 0])


def test_a_client_without_a_plan_is_held_against_even_spacing() -> None:
    even = truth(arrival_s=[5 + index / 10 for index in range(100)], first_s=[20.0] * 100, tokens=[1] * 100)
    assert lateness_s(told([0], [1.0], [1]), even, rate=10.0) == pytest.approx(np.zeros(100), abs=1e-9)
    bursts = truth(arrival_s=[5 + index // 10 for index in range(100)], first_s=[20.0] * 100, tokens=[1] * 100)
    late = lateness_s(told([0], [1.0], [1]), bursts, rate=10.0)
    assert late.max() - late.min() == pytest.approx(0.9)  # the last of each ten is early, the first on time


def test_a_client_that_is_too_slow_for_the_rate_is_ever_later() -> None:
    slow = truth(arrival_s=[index / 9 for index in range(100)], first_s=[20.0] * 100, tokens=[1] * 100)
    late = lateness_s(told([0], [1.0], [1]), slow, rate=10.0)
    assert late[-1] == pytest.approx(99 / 9 - 99 / 10, abs=0.05)


def test_requests_are_found_by_any_of_their_names() -> None:
    record = truth(arrival_s=[1, 2], first_s=[1, 2], tokens=[1, 1], ids=["x", "y"], crcs=[7, 9])
    assert by_answer_id(["chatcmpl-00000012", "chatcmpl-00000003"]).tolist() == [12, 3]
    assert by_request_id(["y", "x"], record).tolist() == [1, 0]
    assert by_body([9, 7], record).tolist() == [1, 0]
    with pytest.raises(KeyError):
        by_request_id(["z"], record)


def aiperf_record(request_id: str, ttft_ms: float, tokens: int, **more: Any) -> str:
    metrics = {
        "time_to_first_token": {"value": ttft_ms, "unit": "ms"},
        "output_sequence_length": {"value": tokens, "unit": "tokens"},
    }
    return json.dumps({"metadata": {"x_request_id": request_id, "session_num": 0}, "metrics": metrics, **more})


def test_aiperf_is_read_from_its_records() -> None:
    failed = json.dumps({"metadata": {"x_request_id": "b"}, "metrics": {}, "error": {"code": 500}})
    lines = "\n".join([aiperf_record("c", 126.0, 16), failed, aiperf_record("a", 503.0, 12, error=None)])
    found = aiperf_told(lines.encode(), THREE)
    assert found.request.tolist() == [2, 0]
    assert found.ttft_s.tolist() == [0.126, 0.503]
    assert found.tokens.tolist() == [16, 12]
    assert found.planned_ns is None


def test_guidellm_is_read_from_its_report_and_its_plan_is_brought_to_the_server_s_clock() -> None:
    request = {
        "response_id": "chatcmpl-00000001",
        "time_to_first_token_ms": 5.5,
        "output_tokens": 16,
        "info": {"timings": {"targeted_start": 1000.25}},
    }
    report = {"benchmarks": [{"requests": {"successful": [request], "errored": [], "incomplete": []}}]}
    found = guidellm_told(json.dumps(report).encode(), to_monotonic_s=-989.0)
    assert (found.request.tolist(), found.ttft_s.tolist(), found.tokens.tolist()) == ([1], [0.0055], [16])
    assert found.planned_ns is not None and found.planned_ns[0] == pytest.approx(11.25 * SECOND)


def test_locust_is_read_from_what_its_task_wrote(tmp_path: Path) -> None:
    (tmp_path / "told.json").write_text('[["chatcmpl-00000002", 0.25, 16], ["chatcmpl-00000000", 0.75, 32]]')
    found = Locust().told(tmp_path, THREE)
    assert found.request.tolist() == [2, 0]
    assert (found.ttft_s.tolist(), found.tokens.tolist()) == ([0.25, 0.75], [16, 32])


def test_headrace_is_read_from_its_records_and_matched_by_its_bodies(tmp_path: Path) -> None:
    plan = Plan(port=1, load=Load(rate=10.0, seconds=1.0, answers=Answers(events=4)), file=str(tmp_path / "told.npz"))
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
    workload = open_workload(specification(plan).load, None)
    crcs = [zlib.crc32(workload.request(number).body) for number in (1, 0)]  # they arrived in this order
    record = truth(arrival_s=[10.1, 10.2], first_s=[10.15, 10.25], tokens=[4, 4], crcs=crcs)
    requests = np.zeros(3, REQUEST)
    requests["number"] = [0, 1, 2]
    requests["outcome"] = [Outcome.OK, Outcome.OK, Outcome.UNFINISHED]
    requests["scheduled_s"], requests["sent_s"], requests["first_s"] = [0, 0.1, 0.2], [0.01, 0.11, 0.2], [0.21, 0.21, 0]
    requests["output_tokens"] = [4, 5, 0]
    np.savez(tmp_path / "told.npz", requests=requests, zero=10.0)
    found = Headrace().told(tmp_path, record)
    assert found.request.tolist() == [1, 0]
    assert found.ttft_s == pytest.approx([0.2, 0.1])
    assert found.tokens.tolist() == [4, 5]
    assert found.planned_ns is not None and found.planned_ns.tolist() == [10 * SECOND, 10 * SECOND + SECOND // 10]


def test_the_tokenizer_of_the_peers_takes_bytes_for_tokens(tmp_path: Path) -> None:
    byte_tokenizer.write(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    text = "Wasser läuft\n  zur Mühle."
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["aiperf", "guidellm", "locust"])
def test_every_package_of_a_peer_is_pinned(name: str) -> None:
    environment = Environment(Path(__file__).parents[2] / "benchmarks" / "load" / "peers" / f"{name}.txt")
    lines = environment.requirements.read_text().split()
    assert all(line.count("==") == 1 for line in lines)
    assert environment.version(name).startswith(f"{name} ")
