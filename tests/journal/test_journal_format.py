"""Lines of the journal, and what a reader makes of damaged ones."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.journal.format import BadLine, decode_line, encode_line, file_name, list_files
from headrace.journal.reader import Position, read
from headrace.journal.records import Progress, Record, Rejected, Settled

text = st.text(max_size=40)
times = st.integers(0, 2**52)
progress = st.builds(Progress, rid=text, seq=st.integers(0, 1000), at_ms=times, output_tokens=st.integers(0, 10**6))
rejected = st.builds(
    Rejected,
    rid=text,
    seq=st.just(1),
    at_ms=times,
    arrived_ms=times,
    endpoint=text,
    endpoint_name=text,
    key=text,
    status=st.sampled_from([429, 503]),
    reason=text,
    work=st.floats(0, 1e9),
)
records = st.lists(progress | rejected, min_size=1, max_size=6)

SETTLED = Settled(
    rid="r-1",
    seq=2,
    at_ms=5,
    status=200,
    outcome="ok",
    input_tokens=3,
    cached_tokens=0,
    output_tokens=4,
    exact=True,
    work=7.5,
    queue_ms=0.1,
    ttft_ms=None,
    e2e_ms=12.0,
)


@given(progress | rejected)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    line = encode_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_line(line[:-1]) == record


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_noticed(where: int, change: int) -> None:
    line = bytearray(encode_line(SETTLED)[:-1])
    line[where % len(line)] ^= change
    with pytest.raises(BadLine):
        decode_line(bytes(line))


def test_a_record_of_an_unknown_kind_is_a_bad_line_and_not_a_crash() -> None:
    body = b'{"kind":"from-the-future","rid":"r"}'
    with pytest.raises(BadLine, match="not a known record"):
        decode_line(b"%08x " % zlib.crc32(body) + body)


@given(written=records, data=st.data())
def test_a_torn_tail_costs_only_the_torn_record(
    written: list[Record], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    lines = [encode_line(record) for record in written]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    (folder / file_name("w", 1)).write_bytes(whole[:cut])

    batch = read(folder, "w", Position())

    survivors = whole[:cut].count(b"\n")
    assert [entry.record for entry in batch.entries] == written[:survivors]
    assert batch.corrupt == ()
    assert batch.torn_bytes == cut - sum(map(len, lines[:survivors]))
    # Once the rest is written, reading on gives the rest and nothing twice.
    (folder / file_name("w", 1)).write_bytes(whole)
    assert [entry.record for entry in read(folder, "w", batch.next).entries] == written[survivors:]


def test_a_corrupt_line_is_skipped_and_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    first, middle, last = (Progress(rid=f"r-{i}", seq=i, at_ms=i, output_tokens=i) for i in range(3))
    damaged = bytearray(encode_line(middle))
    damaged[20] ^= 0x40
    (tmp_path / file_name("w", 1)).write_bytes(encode_line(first) + damaged + encode_line(last))

    batch = read(tmp_path, "w", Position())

    assert [entry.record for entry in batch.entries] == [first, last]
    (corrupt,) = batch.corrupt
    assert corrupt.file == file_name("w", 1)
    assert corrupt.offset == len(encode_line(first))
    assert corrupt.length == len(damaged) - 1
    assert corrupt.reason == "checksum does not match"


def test_an_unfinished_line_in_a_file_that_has_a_successor_is_corrupt(tmp_path: Path) -> None:
    record = Progress(rid="r", seq=1, at_ms=1, output_tokens=1)
    (tmp_path / file_name("w", 1)).write_bytes(encode_line(record) + b"0123")
    (tmp_path / file_name("w", 2)).write_bytes(encode_line(record))

    batch = read(tmp_path, "w", Position())

    assert len(batch.entries) == 2
    assert [(corrupt.offset, corrupt.length) for corrupt in batch.corrupt] == [(len(encode_line(record)), 4)]
    assert batch.next == Position(2, len(encode_line(record)))


def test_reading_can_stop_and_go_on_anywhere(tmp_path: Path) -> None:
    written = [Progress(rid="r", seq=i, at_ms=i, output_tokens=i) for i in range(20)]
    for sequence in range(4):
        part = written[sequence * 5 : sequence * 5 + 5]
        (tmp_path / file_name("w", sequence + 1)).write_bytes(b"".join(map(encode_line, part)))

    position, seen, readings = Position(), [], 0
    while True:
        batch = read(tmp_path, "w", position, max_bytes=150)
        seen += [entry.record for entry in batch.entries]
        position = batch.next
        readings += 1
        if batch.at_end:
            break

    assert seen == written
    assert readings > 5


def test_files_that_were_read_may_be_deleted(tmp_path: Path) -> None:
    record = Progress(rid="r", seq=1, at_ms=1, output_tokens=1)
    (tmp_path / file_name("w", 3)).write_bytes(encode_line(record))
    assert [entry.record for entry in read(tmp_path, "w", Position(1, 9999)).entries] == [record]


def test_only_journal_files_are_listed(tmp_path: Path) -> None:
    for name in ("a.000002.journal", "a.000010.journal", "b.000001.journal", "b.000002.new", "x.journal", "notes.txt"):
        (tmp_path / name).touch()
    assert list_files(tmp_path) == {"a": [2, 10], "b": [1]}
