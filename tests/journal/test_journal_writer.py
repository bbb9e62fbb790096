"""The writer: what it promises when the process is killed, the disk is full, or files rotate."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.journal import writer as writer_module
from headrace.journal.format import list_files
from headrace.journal.reader import Position, read, writer_alive, writers
from headrace.journal.records import Progress
from headrace.journal.writer import JournalError, Writer


def progress(seq: int) -> Progress:
    return Progress(rid="r", seq=seq, at_ms=seq, output_tokens=seq)


def sequences_read(folder: Path, writer_id: str = "w") -> list[int]:
    batch = read(folder, writer_id, Position(), max_bytes=1 << 30)
    assert batch.corrupt == ()
    return [entry.record.seq for entry in batch.entries]


def test_a_record_can_be_read_as_soon_as_append_returns(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "w")
    for seq in range(3):
        writer.append(progress(seq))
        assert sequences_read(tmp_path) == list(range(seq + 1))
    writer.close()


def test_files_rotate_by_size_and_read_as_one_sequence(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "w", rotate_bytes=300)
    for seq in range(30):
        writer.append(progress(seq))
        assert writer_alive(tmp_path, "w")
    writer.close()
    assert len(list_files(tmp_path)["w"]) >= 5
    assert all(path.stat().st_size <= 300 for path in tmp_path.iterdir())
    assert sequences_read(tmp_path) == list(range(30))


def test_a_second_life_of_a_writer_goes_on_in_a_new_file(tmp_path: Path) -> None:
    for seq in range(2):
        writer = Writer(tmp_path, "w")
        writer.append(progress(seq))
        writer.close()
    assert list_files(tmp_path) == {"w": [1, 2]}
    assert sequences_read(tmp_path) == [0, 1]


def test_a_writer_is_alive_until_it_closes(tmp_path: Path) -> None:
    assert not writer_alive(tmp_path, "w")
    writer = Writer(tmp_path, "w")
    assert writer_alive(tmp_path, "w")
    writer.close()
    assert not writer_alive(tmp_path, "w")
    assert writers(tmp_path) == ["w"]


def test_an_id_that_could_leave_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="writer's id"):
        Writer(tmp_path, "../w")


def test_a_folder_that_is_not_there_is_a_journal_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        Writer(tmp_path / "gone", "w")


KILLED = """
import sys
from pathlib import Path
from headrace.journal.records import Progress
from headrace.journal.writer import Writer

writer = Writer(Path(sys.argv[1]), "w", rotate_bytes=20_000)
seq = 0
while True:
    writer.append(Progress(rid="r", seq=seq, at_ms=seq, output_tokens=seq))
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
    seq += 1
"""


def test_kill_minus_9_loses_nothing_that_append_accepted(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    accepted = [int(process.stdout.readline()) for _ in range(1000)]
    assert writer_alive(tmp_path, "w")
    process.send_signal(signal.SIGKILL)
    accepted += [int(line) for line in process.stdout.read().splitlines()]
    process.wait(10)
    process.stdout.close()

    assert not writer_alive(tmp_path, "w")
    seen = sequences_read(tmp_path)
    assert seen[: len(accepted)] == accepted
    # At most the record whose acceptance could not be reported any more.
    assert len(seen) - len(accepted) <= 1
    assert len(list_files(tmp_path)["w"]) > 1


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes of a file fail half-way, as on a full disk. For the whole process: keep it short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_and_leaves_no_half_record(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "w")
    accepted = []
    with files_limited_to(500):
        with pytest.raises(JournalError, match="cannot write the journal"):
            for seq in range(100):
                writer.append(progress(seq))
                accepted.append(seq)
        with pytest.raises(JournalError):
            writer.append(progress(1000))
    assert sequences_read(tmp_path) == accepted
    assert read(tmp_path, "w", Position()).torn_bytes == 0
    writer.close()


def test_writing_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "w")
    with files_limited_to(130):
        writer.append(progress(0))
        with pytest.raises(JournalError):
            writer.append(progress(1))
    writer.append(progress(2))
    writer.close()
    assert sequences_read(tmp_path) == [0, 2]


def test_a_probe_finds_out_whether_there_is_room_and_leaves_nothing(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "w")
    writer.append(progress(0))
    with files_limited_to(writer_module.PROBE_BYTES), pytest.raises(JournalError, match="File too large"):
        writer.probe()  # a part of it fits
    writer.probe()
    assert sequences_read(tmp_path) == [0]
    assert read(tmp_path, "w", Position()).torn_bytes == 0
    writer.append(progress(1))
    writer.close()
    assert sequences_read(tmp_path) == [0, 1]


def test_a_half_record_that_cannot_be_taken_back_damages_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, "w")
    writer.append(progress(0))
    real_write = os.write
    calls = iter([True, False])

    def half_then_full(fd: int, data: bytes) -> int:
        if next(calls):
            return real_write(fd, data[:10])
        raise OSError(28, "No space left on device")

    def no_truncate(fd: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module.os, "write", half_then_full)
        patch.setattr(writer_module.os, "ftruncate", no_truncate)
        with pytest.raises(JournalError, match="No space left"):
            writer.append(progress(1))
    writer.append(progress(2))
    writer.append(progress(3))
    writer.close()

    batch = read(tmp_path, "w", Position())
    assert [entry.record.seq for entry in batch.entries] == [0, 2, 3]
    assert [corrupt.length for corrupt in batch.corrupt] == [10]


def test_append_never_waits_for_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, release = threading.Event(), threading.Event()
    synced: list[int] = []
    real_fsync = os.fsync

    def slow_fsync(fd: int) -> None:
        entered.set()
        assert release.wait(30)
        real_fsync(fd)
        synced.append(fd)

    monkeypatch.setattr(writer_module.os, "fsync", slow_fsync)
    writer = Writer(tmp_path, "w", rotate_bytes=1000)
    assert entered.wait(30)
    for seq in range(100):
        writer.append(progress(seq))
    assert sequences_read(tmp_path) == list(range(100))
    assert synced == []
    release.set()
    writer.close()
    assert len(synced) >= len(list_files(tmp_path)["w"])


def test_what_is_written_while_an_fsync_runs_gets_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    begun, release, again = threading.Event(), threading.Event(), threading.Event()

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return  # the folder
        sizes.append(os.fstat(fd).st_size)
        begun.set()
        if len(sizes) == 2:
            again.set()
        assert release.wait(30)

    monkeypatch.setattr(writer_module.os, "fsync", fsync)
    writer = Writer(tmp_path, "w")
    assert begun.wait(30)
    writer.append(progress(0))
    release.set()
    assert again.wait(30)
    assert sizes[0] == 0 < sizes[1]
    writer.close()


def test_the_folder_is_synced_for_new_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = threading.Semaphore(0)
    files = threading.Semaphore(0)
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        (folders if stat.S_ISDIR(os.fstat(fd).st_mode) else files).release()
        real_fsync(fd)

    monkeypatch.setattr(writer_module.os, "fsync", fsync)
    writer = Writer(tmp_path, "w", rotate_bytes=100)
    assert folders.acquire(timeout=30) and files.acquire(timeout=30)
    writer.append(progress(0))
    assert files.acquire(timeout=30)
    writer.append(progress(1))  # in a new file
    assert folders.acquire(timeout=30)
    writer.close()
    assert not folders.acquire(blocking=False)


def test_a_write_that_takes_only_a_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(writer_module.os, "write", lambda fd, data: real_write(fd, data[:7]))
        writer = Writer(tmp_path, "w")
        writer.append(progress(0))
    writer.append(progress(1))
    writer.close()
    assert sequences_read(tmp_path) == [0, 1]


def test_a_record_larger_than_any_file_has_one_to_itself(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "w", rotate_bytes=10)
    for seq in range(3):
        writer.append(progress(seq))
    writer.close()
    assert list_files(tmp_path)["w"] == [1, 2, 3]
    assert sequences_read(tmp_path) == [0, 1, 2]


def test_after_a_failed_fsync_a_new_file_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    real_fsync = os.fsync

    def failing_fsync(fd: int) -> None:
        if failed.is_set():
            real_fsync(fd)
            return
        failed.set()
        raise OSError(5, "Input/output error")

    logged = threading.Event()
    monkeypatch.setattr(writer_module.os, "fsync", failing_fsync)
    monkeypatch.setattr(writer_module.log, "error", lambda *args, **kwargs: logged.set())
    writer = Writer(tmp_path, "w")
    assert logged.wait(30)
    writer.append(progress(0))
    writer.append(progress(1))
    writer.close()
    assert sequences_read(tmp_path) == [0, 1]
    assert list_files(tmp_path)["w"] == [1, 2]
