"""Each journal record counts once, whatever is read again and wherever the ingest dies."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from database_url import database_url
from headrace.journal.records import Progress, Record, Rejected, Reserved, Settled
from headrace.journal.writer import Writer
from headrace.ledger.database import Database
from headrace.ledger.ingest import Ingest, Ingested
from headrace.ledger.schema import Conflict, JournalPosition, LedgerBase, Usage
from headrace.policy.work import RAW_TOKENS, Weights


def reserved(rid: str, seq: int = 0, **changes: Any) -> Reserved:
    record = {
        "rid": rid,
        "seq": seq,
        "at_ms": 2_000,
        "arrived_ms": 1_000,
        "endpoint": "e1",
        "endpoint_name": "chat",
        "entity": "n1",
        "config_version": 1,
        "key": "k1",
        "replica": "r1",
        "band": "default",
        "stream": True,
        "input_estimate": 40,
        "max_output": 64,
        "work_reserved": 104.0,
    }
    return Reserved(**(record | changes))


def progress(rid: str, seq: int, output: int, input_tokens: int | None = 33) -> Progress:
    return Progress(rid=rid, seq=seq, at_ms=2_000 + output, output_tokens=output, input_tokens=input_tokens)


def settled(rid: str, seq: int, output: int = 64, **changes: Any) -> Settled:
    record = {
        "rid": rid,
        "seq": seq,
        "at_ms": 5_000,
        "status": 200,
        "outcome": "ok",
        "input_tokens": 33,
        "cached_tokens": 3,
        "output_tokens": output,
        "exact": True,
        "work": 33.0 + output,
        "queue_ms": 1000.0,
        "ttft_ms": 1100.0,
        "e2e_ms": 4000.0,
    }
    return Settled(**(record | changes))


def rejected(rid: str, seq: int = 0) -> Rejected:
    return Rejected(
        rid=rid,
        seq=seq,
        at_ms=3_000,
        arrived_ms=1_000,
        endpoint="e1",
        endpoint_name="chat",
        key="k1",
        status=429,
        reason="deadline",
        work=104.0,
    )


class Bench:
    """A journal folder and a ledger, with an ingest that can be killed and made to read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        self.folder.mkdir()
        self.database = Database(database_url(folder))
        LedgerBase.metadata.create_all(self.database.engine)
        self.weights = {"n1": RAW_TOKENS}
        """By served entity."""

    def write(self, *records: Record, writer: str = "g1") -> Writer:
        journal = Writer(self.folder, writer)
        for record in records:
            journal.append(record)
        return journal

    def ingest(self, batch_bytes: int = 1 << 20) -> Ingested:
        return Ingest(self.database, self.folder, self._weights_of, batch_bytes=batch_bytes).run(9)

    def _weights_of(self, endpoint: str, version: int, entity: str) -> Weights | None:
        assert (endpoint, version) == ("e1", 1)
        return self.weights.get(entity)

    def forget(self, position: int = 0) -> None:
        """As after a restore of older positions: everything is read again."""
        with self.database.write() as session:
            for at in session.scalars(select(JournalPosition)):
                at.sequence, at.offset, at.finished = (0, 0, False) if position == 0 else (1, position, False)

    def usage(self) -> dict[str, dict[str, Any]]:
        with self.database.read() as session:
            rows = session.scalars(select(Usage)).all()
            return {row.rid: {c.name: getattr(row, c.name) for c in Usage.__table__.columns} for row in rows}

    def conflicts(self) -> list[tuple[str, str, int]]:
        with self.database.read() as session:
            return [(c.rid, c.kind, c.seq) for c in session.scalars(select(Conflict).order_by(Conflict.id))]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_a_request_becomes_one_row_with_what_the_engine_told(bench: Bench) -> None:
    journal = bench.write(reserved("a"), progress("a", 1, 10), settled("a", 2))
    assert bench.ingest() == Ingested(records=3)
    row = bench.usage()["a"]
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["work"]) == (33, 3, 64, 97.0)
    assert (row["ended"], row["exact"], row["key"], row["endpoint_name"]) == ("settled", True, "k1", "chat")
    journal.close()


def test_what_a_client_says_of_itself_stops_no_ledger_whatever_is_in_it(bench: Bench) -> None:
    context = {"a\0b": "\ud7ff\U0010ffff\0"}
    bench.write(reserved("a", client_request_id="x\0y", user="\0", usage_context=context), settled("a", 1)).close()
    assert bench.ingest() == Ingested(records=2)
    row = bench.usage()["a"]
    assert (row["client_request_id"], row["user"]) == ("x\ufffdy", "\ufffd")


def test_reading_everything_again_changes_nothing(bench: Bench) -> None:
    bench.write(reserved("a"), progress("a", 1, 10), settled("a", 2), rejected("b"), reserved("c")).close()
    bench.ingest()
    before = bench.usage()
    bench.forget()
    assert bench.ingest() == Ingested()
    assert bench.usage() == before
    assert bench.conflicts() == []


def test_a_record_that_contradicts_another_is_refused_and_raises_the_alarm_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(reserved("a"), settled("a", 1), settled("a", 1, output=65), reserved("a", key="k2")).close()
    assert bench.ingest().conflicts == 2
    assert bench.usage()["a"]["output_tokens"] == 64
    assert bench.usage()["a"]["key"] == "k1"
    assert bench.conflicts() == [("a", "settled", 1), ("a", "reserved", 0)]
    assert sum(record.levelname == "CRITICAL" for record in caplog.records) == 2
    bench.forget()
    assert bench.ingest().conflicts == 0
    assert len(bench.conflicts()) == 2


def test_a_second_end_with_another_number_is_a_conflict(bench: Bench) -> None:
    bench.write(reserved("a"), settled("a", 1), settled("a", 2)).close()
    assert bench.ingest().conflicts == 1


def test_a_request_in_flight_is_left_open_while_its_gateway_lives(bench: Bench) -> None:
    journal = bench.write(reserved("a"), progress("a", 1, 10))
    assert bench.ingest().recovered == 0
    assert bench.usage()["a"]["ended"] is None
    journal.append(settled("a", 2))
    bench.ingest()
    assert bench.usage()["a"]["ended"] == "settled"
    journal.close()
    assert bench.ingest().recovered == 0


def test_a_request_of_a_dead_gateway_is_settled_once_with_its_last_progress(bench: Bench) -> None:
    bench.write(reserved("a"), progress("a", 1, 10), progress("a", 2, 20)).close()
    assert bench.ingest().recovered == 1
    row = bench.usage()["a"]
    assert (row["ended"], row["outcome"], row["exact"]) == ("recovered", "recovered", False)
    assert (row["input_tokens"], row["output_tokens"], row["work"], row["settled_ms"]) == (33, 20, 53.0, 2_020)
    assert bench.ingest().recovered == 0
    bench.forget()
    assert bench.ingest() == Ingested()
    assert bench.usage()["a"] == row


def test_a_lost_request_is_weighed_by_the_entity_that_it_was_dispatched_to(bench: Bench) -> None:
    bench.weights["n2"] = Weights(w_in=2.0, w_out=3.0, w_pp=0.0, w_dd=0.0, w_c=0.0)
    bench.write(reserved("a", entity="n2"), progress("a", 1, 10)).close()
    bench.ingest()
    assert bench.usage()["a"]["work"] == 33 * 2.0 + 10 * 3.0


def test_a_reservation_without_progress_is_recovered_with_its_estimate(bench: Bench) -> None:
    bench.weights = {}
    bench.write(reserved("a")).close()
    bench.ingest()
    row = bench.usage()["a"]
    assert (row["input_tokens"], row["output_tokens"], row["work"], row["settled_ms"]) == (40, 0, 104.0, 2_000)


def test_a_request_that_was_dispatched_twice_belongs_to_the_second_replica(bench: Bench) -> None:
    bench.write(reserved("a"), reserved("a", 1, replica="r2"), settled("a", 2)).close()
    assert bench.ingest().conflicts == 0
    assert bench.usage()["a"]["replica"] == "r2"


def test_a_dispatched_request_that_found_no_second_replica_ends_rejected(bench: Bench) -> None:
    bench.write(reserved("a"), rejected("a", 1)).close()
    assert bench.ingest() == Ingested(records=2)
    assert bench.usage()["a"]["ended"] == "rejected"


def test_a_damaged_line_costs_only_itself(bench: Bench) -> None:
    bench.write(reserved("a"), settled("a", 1)).close()
    file = next(bench.folder.glob("*.journal"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0][:20] + b"#" + lines[0][21:] + lines[1])
    assert bench.ingest() == Ingested(records=1, corrupt=1)
    row = bench.usage()["a"]
    assert (row["ended"], row["output_tokens"], row["endpoint"]) == ("settled", 64, None)


class Died(Exception):
    """The ingest was killed here."""


@st.composite
def histories(draw: st.DrawFn) -> list[list[Record]]:
    """What several gateways wrote: whole requests, open ones, repeated records and contradictions, interleaved."""
    journals = []
    for gateway in range(draw(st.integers(1, 3))):
        requests: list[list[Record]] = []
        for number in range(draw(st.integers(0, 4))):
            rid = f"g{gateway}-{number}"
            records: list[Record] = [reserved(rid)]
            for seq in range(draw(st.integers(0, 3))):
                records.append(progress(rid, len(records), 10 * (seq + 1)))
            if draw(st.booleans()):
                records.append(settled(rid, len(records)))
            if draw(st.booleans()):
                records.append(records[draw(st.integers(0, len(records) - 1))])
            if draw(st.integers(0, 4)) == 0:
                records.append(reserved(rid, key="another"))
            requests.append(records)
        order = random.Random(draw(st.integers(0, 1 << 16)))
        mixed: list[Record] = []
        while any(requests):
            mixed.append(order.choice([r for r in requests if r]).pop(0))
        journals.append(mixed)
    return journals


@settings(max_examples=60, deadline=None)
@given(
    histories(),
    st.lists(st.sampled_from(["read", "die", "forget"]), max_size=6),
    st.integers(1, 2_000),
    st.integers(1, 5),
)
def test_any_order_of_readings_and_crashes_gives_the_same_ledger(
    tmp_path_factory: pytest.TempPathFactory,
    journals: list[list[Record]],
    steps: list[str],
    batch_bytes: int,
    die_after: int,
) -> None:
    def fill(bench: Bench, records: list[list[Record]]) -> None:
        for number, mixed in enumerate(records):
            bench.write(*mixed, writer=f"g{number}").close()

    straight = Bench(tmp_path_factory.mktemp("straight"))
    fill(straight, journals)
    straight.ingest()

    crooked = Bench(tmp_path_factory.mktemp("crooked"))
    fill(crooked, journals)
    for step in steps:
        match step:
            case "read":
                crooked.ingest(batch_bytes)
            case "forget":
                crooked.forget()
            case "die":
                _ingest_and_die(crooked, batch_bytes, die_after)
    crooked.ingest(batch_bytes)

    assert crooked.usage() == straight.usage()
    assert sorted(crooked.conflicts()) == sorted(straight.conflicts())
    for bench in (straight, crooked):
        bench.database.close()


def _ingest_and_die(bench: Bench, batch_bytes: int, after: int) -> None:
    """Kill the ingest inside its n-th transaction, after the rows were changed and before they were committed."""
    ingest = Ingest(bench.database, bench.folder, lambda endpoint, version, entity: RAW_TOKENS, batch_bytes=batch_bytes)
    whole, calls = ingest._apply, 0

    def apply(*given: Any) -> Ingested:
        nonlocal calls
        calls += 1
        done = whole(*given)
        if calls == after:
            given[0].flush()
            raise Died
        return done

    ingest._apply = apply  # type: ignore[method-assign]
    with contextlib.suppress(Died):
        ingest.run(9)
