"""The way to the journal while the disk is full: what is refused, what is kept, what goes unmetered."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from headrace.gateway import outbox as outbox_module
from headrace.gateway.outbox import Outbox
from headrace.gateway.snapshot import Tick
from headrace.journal import writer as writer_module
from headrace.journal.reader import Position, read
from headrace.journal.records import Progress, Record, Rejected, Reserved, Settled
from headrace.journal.writer import JournalError, Writer


class Disk:
    """The journal's disk; each write takes from its room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: float = float("inf")
        """Bytes."""
        real = os.write

        def write(fd: int, data: bytes) -> int:
            taken = data[: int(min(self.room, len(data)))]
            if not taken:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(taken)
            return real(fd, taken)

        monkeypatch.setattr(writer_module.os, "write", write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.005)
    return Disk(monkeypatch)


@asynccontextmanager
async def an_outbox(folder: Path, *, serve_unmetered: bool = False) -> AsyncIterator[Outbox]:
    outbox = Outbox(Writer(folder, "w"), serve_unmetered=serve_unmetered)
    yield outbox
    outbox.close()


def reserved(rid: str, seq: int = 1) -> Reserved:
    return Reserved(
        rid=rid,
        seq=seq,
        at_ms=1,
        arrived_ms=1,
        endpoint="e",
        endpoint_name="e",
        entity="n",
        config_version=1,
        key="k",
        replica="r",
        band="default",
        stream=False,
        input_estimate=1,
        max_output=1,
        work_reserved=1.0,
    )


def settled(rid: str, seq: int = 2) -> Settled:
    return Settled(
        rid=rid,
        seq=seq,
        at_ms=2,
        status=200,
        outcome="ok",
        input_tokens=30,
        cached_tokens=0,
        output_tokens=4,
        exact=True,
        work=1.0,
        queue_ms=0.0,
        ttft_ms=None,
        e2e_ms=1.0,
    )


def rejected(rid: str) -> Rejected:
    return Rejected(
        rid=rid,
        seq=1,
        at_ms=1,
        arrived_ms=1,
        endpoint="e",
        endpoint_name="e",
        key="k",
        status=429,
        reason="queue_full",
        work=1.0,
    )


def written(folder: Path) -> list[Record]:
    batch = read(folder, "w", Position())
    assert batch.corrupt == () and batch.torn_bytes == 0
    return [entry.record for entry in batch.entries]


async def recovered(outbox: Outbox) -> None:
    async with asyncio.timeout(20):
        while outbox.tick().failure is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_records_go_out_in_their_order(tmp_path: Path, disk: Disk) -> None:
    records = [reserved("a"), Progress("a", 2, 1, 5), settled("a", 3), rejected("b")]
    async with an_outbox(tmp_path) as outbox:
        outbox.reserve(records[0])  # type: ignore[arg-type]
        outbox.note(records[1])  # type: ignore[arg-type]
        outbox.end(records[2])  # type: ignore[arg-type]
        outbox.end(records[3])  # type: ignore[arg-type]
        assert written(tmp_path) == records
        assert outbox.tick().failure is None


async def test_on_a_full_disk_a_reservation_is_refused_and_an_end_is_kept(tmp_path: Path, disk: Disk) -> None:
    async with an_outbox(tmp_path) as outbox:
        outbox.reserve(reserved("a"))
        disk.room = 100  # less than one record
        outbox.end(settled("a"))
        with pytest.raises(JournalError, match="No space left"):
            outbox.reserve(reserved("b"))
        tick = outbox.tick()
        assert tick.failure is not None and "No space left" in tick.failure
        assert (tick.kept, tick.serves_unmetered, tick.unmetered_requests) == (1, False, 0)
        disk.room = float("inf")
        await recovered(outbox)  # without any request
        outbox.reserve(reserved("c"))
        outbox.end(settled("c"))
    assert written(tmp_path) == [reserved("a"), settled("a"), reserved("c"), settled("c")]


async def test_the_first_request_after_room_was_made_is_served(tmp_path: Path, disk: Disk) -> None:
    async with an_outbox(tmp_path) as outbox:
        disk.room = 0
        with pytest.raises(JournalError):
            outbox.reserve(reserved("a"))
        disk.room = float("inf")
        outbox.reserve(reserved("b"))
    assert written(tmp_path) == [reserved("b")]


async def test_a_little_room_is_for_what_has_ended(tmp_path: Path, disk: Disk) -> None:
    async with an_outbox(tmp_path) as outbox:
        for rid in ("a", "b"):
            outbox.reserve(reserved(rid))
        disk.room = 0
        outbox.end(settled("a"))
        outbox.end(settled("b"))
        disk.room = 2000  # for both ends and more, but not for going on
        with pytest.raises(JournalError):
            outbox.reserve(reserved("c"))
        outbox.note(Progress("d", 2, 1, 5))
        assert written(tmp_path) == [reserved("a"), reserved("b"), settled("a"), settled("b")]
        assert outbox.tick().kept == 0


async def test_of_rejections_only_so_many_are_kept(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MOST_REJECTIONS_KEPT", 2)
    async with an_outbox(tmp_path) as outbox:
        outbox.reserve(reserved("a"))
        disk.room = 0
        for rid in ("r1", "r2", "r3"):
            outbox.end(rejected(rid))
        outbox.end(settled("a"))
        disk.room = float("inf")
        await recovered(outbox)
    assert written(tmp_path) == [reserved("a"), rejected("r1"), rejected("r2"), settled("a")]


async def test_what_is_served_unmetered_is_counted_and_leaves_no_record(tmp_path: Path, disk: Disk) -> None:
    async with an_outbox(tmp_path, serve_unmetered=True) as outbox:
        outbox.reserve(reserved("before"))
        disk.room = 0
        outbox.reserve(reserved("during"))
        outbox.note(Progress("during", 2, 1, 5))
        outbox.end(settled("during", 3))
        outbox.reserve(reserved("across"))
        outbox.end(settled("before"))
        assert outbox.tick().kept == 1
        disk.room = float("inf")
        await recovered(outbox)
        # Half of a request in the journal would be worse than none.
        outbox.reserve(reserved("across", 2))
        outbox.note(Progress("across", 3, 1, 5))
        outbox.end(settled("across", 4))
        outbox.reserve(reserved("after"))
        outbox.end(settled("after"))
        tick = outbox.tick()
        assert tick.serves_unmetered
        assert (tick.unmetered_requests, tick.unmetered_input_tokens, tick.unmetered_output_tokens) == (2, 60, 8)
    assert written(tmp_path) == [reserved("before"), settled("before"), reserved("after"), settled("after")]


async def test_a_request_that_the_journal_knows_stays_metered_when_it_moves_on_a_full_disk(
    tmp_path: Path, disk: Disk
) -> None:
    async with an_outbox(tmp_path, serve_unmetered=True) as outbox:
        outbox.reserve(reserved("a"))
        disk.room = 0
        outbox.reserve(reserved("a", 2))  # its replica was lost
        outbox.end(settled("a", 3))
        disk.room = float("inf")
        await recovered(outbox)
        assert outbox.tick().unmetered_requests == 0
    assert written(tmp_path) == [reserved("a"), settled("a", 3)]


async def test_what_the_disk_refuses_to_the_end_is_said(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with an_outbox(tmp_path) as outbox:
        outbox.reserve(reserved("a"))
        disk.room = 0
        outbox.end(settled("a"))
    (said,) = (record for record in caplog.records if record.levelname == "CRITICAL")
    assert msgspec.convert(said.__dict__["fields"]["record"], Settled) == settled("a")


async def test_a_failure_and_its_end_are_each_said_once(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    async with an_outbox(tmp_path) as outbox:
        disk.room = 0
        for rid in "abc":
            with pytest.raises(JournalError):
                outbox.reserve(reserved(rid))
        disk.room = float("inf")
        await recovered(outbox)
        outbox.reserve(reserved("d"))
    assert [record.message for record in caplog.records] == [
        "the journal fails: new requests are refused",
        "the journal is written again",
    ]


def test_a_tick_without_a_word_of_the_journal_says_that_all_is_well() -> None:
    old = msgspec.json.decode(b'{"type":"tick","gateway":"g","at_ms":1,"version":1}', type=Tick)
    assert old.journal.failure is None
