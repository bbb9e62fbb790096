"""Records on disk: written in blocks by several processes, followed while they are written, and put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.bench.client.merge import Merge
from headrace.bench.client.record_file import MOST_ERRORS, OTHER_ERRORS, RecordTail, RecordWriter
from headrace.bench.client.records import REQUEST, Outcome, TokensFrom

ZERO = 100.0


def add(writer: RecordWriter, number: int, times: list[float], tokens: list[int], error: str | None = None) -> None:
    given = {
        "number": number,
        "outcome": Outcome.OK if error is None else Outcome.FAILED,
        "measured": True,
        "scheduled_s": number / 10,
        "first_s": float("nan"),
        "events": len(times),
        "output_tokens": sum(tokens),
    }
    names = [name for name in REQUEST.names or () if name not in ("first_event", "error", "tokens_from")]
    writer.add((*[given.get(name, 0) for name in names], TokensFrom.LISTS), times, tokens, error)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r", ZERO)
    add(writer, 3, [ZERO + 1.5, ZERO + 2], [1, 2])
    add(writer, 5, [], [], "no connection")
    writer.close()
    (block,) = RecordTail(tmp_path / "r").read()
    assert block.rows["number"].tolist() == [3, 5] and block.rows["error"].tolist() == [-1, 0]
    assert block.rows["scheduled_s"].tolist() == [0.3, 0.5] and np.isnan(block.rows["first_s"]).all()
    assert block.rows["tokens_from"].tolist() == [TokensFrom.LISTS] * 2
    assert block.times.tolist() == [1.5, 2.0] and block.tokens.tolist() == [1, 2]
    assert block.errors == ["no connection"]


def test_a_block_that_is_not_complete_is_left_until_it_is(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "whole", ZERO)
    for number in range(2):
        add(writer, number, [ZERO], [1])
        writer.flush()
    data = (tmp_path / "whole").read_bytes()
    growing = tmp_path / "growing"
    tail = RecordTail(growing)
    assert tail.read() == []
    numbers = []
    with growing.open("wb", buffering=0) as file:
        for byte in data:
            file.write(bytes([byte]))
            numbers += [block.rows["number"].tolist() for block in tail.read()]
    assert numbers == [[0], [1]]


def test_little_can_be_left_to_wait_until_it_is_a_block(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r", ZERO)
    tail = RecordTail(tmp_path / "r")
    add(writer, 0, [ZERO, ZERO], [1, 1])
    writer.flush(4)
    assert tail.read() == []
    add(writer, 1, [], [])
    writer.flush(4)
    (block,) = tail.read()
    assert block.rows["number"].tolist() == [0, 1]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"number,outcome\n" * 10)
    with pytest.raises(ValueError, match="no file of records"):
        RecordTail(tmp_path / "r").read()


def test_records_of_several_processes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    writers = [RecordWriter(path, ZERO) for path in paths]
    merge = Merge(paths)
    for number in (1, 0, 3, 2, 5, 4):
        error = f"error {number % 3}" if number > 1 else None
        add(writers[number % 2], number, [ZERO + number] * number, [number] * number, error)
        if number in (0, 2):
            for writer in writers:
                writer.flush()
            merge.read()
    for writer in writers:
        writer.close()
    merge.read()
    records = merge.records()
    assert records.requests["number"].tolist() == list(range(6))
    for number, request in enumerate(records.requests):
        span = slice(request["first_event"], request["first_event"] + request["events"])
        assert records.event_s[span].tolist() == [float(number)] * number
        assert records.event_tokens[span].tolist() == [number] * number
        words = None if request["error"] < 0 else records.errors[request["error"]]
        assert words == (f"error {number % 3}" if number > 1 else None)
    assert len(records.errors) == 3


def test_what_one_look_shows_of_a_run_stands_in_the_same_place_at_the_next(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r", ZERO)
    merge = Merge([tmp_path / "r"])
    looks = []
    for numbers in ((4, 2), (3, 0), (1,)):
        for number in numbers:
            add(writer, number, [ZERO + number], [1])
        writer.flush()
        merge.read()
        looks.append(merge.so_far().requests["number"].tolist())
    writer.close()
    assert looks == [[4, 2], [4, 2, 3, 0], [4, 2, 3, 0, 1]]
    assert merge.records().requests["number"].tolist() == [0, 1, 2, 3, 4]


def test_records_that_were_handed_out_do_not_change_when_more_come(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r", ZERO)
    merge = Merge([tmp_path / "r"])
    add(writer, 0, [ZERO], [1])
    writer.flush()
    merge.read()
    before = merge.so_far()
    kept = before.requests.tobytes(), before.event_s.tobytes()
    for number in range(1, 3000):
        add(writer, number, [ZERO + number], [1])
    writer.close()
    merge.read()
    assert (before.requests.tobytes(), before.event_s.tobytes()) == kept
    assert len(merge.records().requests) == 3000


def test_a_server_that_says_something_else_every_time_fills_no_table(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r", ZERO)
    for number in range(MOST_ERRORS + 50):
        add(writer, number, [], [], f"error {number}")
    writer.close()
    merge = Merge([tmp_path / "r"])
    merge.read()
    records = merge.records()
    assert len(records.errors) == MOST_ERRORS + 1
    assert records.errors[records.requests["error"][-1]] == OTHER_ERRORS
