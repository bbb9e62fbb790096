"""A run is taken up from what its clients left in their folders, however they ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from misbehaving import DONE, END, FINISH, STREAM, chunk, client_spec, serving, token, usage

from headrace.bench import segments, slo
from headrace.bench.client.record_file import RecordTail, RecordWriter
from headrace.bench.client.records import REQUEST, Outcome
from headrace.bench.client.run import records_file
from headrace.bench.client.spec import ClientSpec, Rest
from headrace.bench.look import Look
from headrace.bench.segments import Began, Earlier, earlier
from headrace.bench.session import Measured, Session
from headrace.bench.workload.spec import Amount, Arrivals, ClosedLoop, Constant, Content, Prose

PROSE = Prose(origin="a test", counts="close")
ALL = Rest()


def kept(folder: Path, numbers: list[int], *, rest: Rest = ALL) -> Path:
    """As a client leaves it that was killed: complete answers to these, a block each. Due at 10 a second."""
    folder.mkdir(exist_ok=True)
    segments.begin(folder, Began(at=1000.0, rest=rest, prose=PROSE, null_s=0.002))
    writer = RecordWriter(records_file(folder, 0), 0.0)
    names = [name for name in REQUEST.names or () if name not in ("first_event", "error", "tokens_from")]
    for number in numbers:
        due_s = number / 10 - rest.schedule_s
        row = {"number": number, "measured": True, "scheduled_s": due_s, "sent_s": due_s, "end_s": due_s + 0.5}
        writer.add((*[row.get(name, 0) for name in names], 0), [], [], None)
        writer.flush()
    writer.close()
    return folder


def spec(**changes: object) -> ClientSpec:
    return client_spec("http://h", **{"arrivals": Constant(10.0), "amount": Amount(requests=20), **changes})


def test_a_folder_without_a_run_is_none(tmp_path: Path) -> None:
    assert earlier([], spec()) == Earlier()
    assert earlier([tmp_path], spec()) == Earlier()


def test_a_killed_client_leaves_what_it_had_written(tmp_path: Path) -> None:
    found = earlier([kept(tmp_path / "1", [0, 1, 2, 3, 5])], spec())
    (part,) = found.parts
    assert part.records.requests["number"].tolist() == [0, 1, 2, 3]
    assert part.records.planned_s == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert not part.told
    assert found.rest == Rest(firsts=(4,), schedule_s=0.4)
    assert (found.prose, found.null_s, found.requests) == (PROSE, (0.002, None), 4)


@pytest.mark.parametrize("lost", [1, 40, 121, 300])
def test_a_torn_record_ends_what_is_kept(lost: int, tmp_path: Path) -> None:
    folder = kept(tmp_path / "1", list(range(6)))
    file = records_file(folder, 0)
    data = file.read_bytes()
    length = len(data) // 6
    whole = (len(data) - lost) // length
    file.write_bytes(data[:-lost])
    assert earlier([folder], spec()).requests == whole
    # As a file system leaves it that had made the file longer, and then lost its power.
    file.write_bytes(data[:-lost] + bytes(lost))
    assert earlier([folder], spec()).requests == whole


def test_records_of_a_living_client_that_are_broken_are_an_error(tmp_path: Path) -> None:
    file = records_file(kept(tmp_path / "1", [0, 1]), 0)
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="is no file of records, or a broken one"):
        RecordTail(file).read()


def test_a_second_client_takes_up_where_the_first_ended(tmp_path: Path) -> None:
    first = kept(tmp_path / "1", [0, 1, 2, 3, 5])
    second = kept(tmp_path / "2", [4, 5, 6], rest=Rest(firsts=(4,), schedule_s=0.4))
    found = earlier([first, second], spec())
    assert [part.records.requests["number"].tolist() for part in found.parts] == [[0, 1, 2, 3], [4, 5, 6]]
    assert found.rest == Rest(firsts=(7,), schedule_s=0.7)


def test_a_client_that_was_killed_before_it_began_changes_nothing(tmp_path: Path) -> None:
    first = kept(tmp_path / "1", [0, 1])
    (tmp_path / "2").mkdir()
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "began.json").write_bytes(b"\0" * 50)
    found = earlier([first, tmp_path / "2", tmp_path / "3"], spec())
    assert len(found.parts) == 1 and found.rest == Rest(firsts=(2,), schedule_s=0.2)


def test_of_several_processes_one_that_wrote_nothing_holds_all_back(tmp_path: Path) -> None:
    folder = kept(tmp_path / "1", [0, 2, 4, 6])
    found = earlier([folder], spec(processes=2))
    assert found.rest == Rest(firsts=(2, 1), schedule_s=0.1) and found.requests == 1


async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.02)
    writer.write(STREAM + b"".join(chunk(token()) for _ in range(4)) + chunk(FINISH + usage(4) + DONE) + END)


async def measured(spec: ClientSpec, folder: Path, taken_up: Earlier, stop_at: int | None = None) -> Measured:
    stop = asyncio.Event()

    def look(look: Look) -> None:
        if stop_at is not None and look.ok >= stop_at:
            stop.set()

    folder.mkdir()
    session = Session(spec, slo.parse("ttft_p90=10s"), calibration_s=0, earlier=taken_up)
    async with asyncio.timeout(60):
        return await session.measure(folder, stop, look)


@pytest.mark.parametrize(
    ("arrivals", "amount", "processes"),
    [
        (Constant(60.0), Amount(requests=120), 2),
        (ClosedLoop(users=3), Amount(requests=150), 2),
        (ClosedLoop(users=2), Amount(duration_s=2.0), 1),
    ],
)
async def test_a_run_that_was_stopped_is_gone_on_with_to_its_end(
    arrivals: Arrivals, amount: Amount, processes: int, tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in range(2)]
    async with serving(answer) as url:
        load = client_spec(url, arrivals=arrivals, amount=amount, processes=processes, content=Content())
        first = await measured(load, folders[0], Earlier(), stop_at=20)
        taken_up = earlier(folders[:1], load)
        second = await measured(load, folders[1], taken_up)
        done = earlier(folders, load)
    assert first.interrupted and not second.interrupted
    assert 0 < taken_up.requests < len(first.records.requests)
    requests = second.records.requests[second.records.requests["measured"]]
    assert requests["number"].tolist() == list(range(len(requests)))
    assert amount.requests is None or len(requests) == amount.requests
    assert set(requests["outcome"]) == {Outcome.OK}
    assert [segment.told for segment in second.records.segments] == [True, True]
    at = second.records.segments[1].start_s
    later = requests["scheduled_s"] >= at - 1e-9
    assert (~later).sum() == taken_up.requests
    assert requests["end_s"][~later].max() <= at == pytest.approx(requests["scheduled_s"][later].min())
    assert second.summary.whole.counts.ok == len(requests)
    assert second.summary.valid or all("client" not in reason for reason in second.summary.reasons)
    assert done.rest is None

    again = await measured(load, tmp_path / "2", done)
    kept_rows = again.records.requests[again.records.requests["measured"]]
    assert np.array_equal(kept_rows["number"], requests["number"]) and not (tmp_path / "2" / "began.json").exists()


async def test_what_had_not_ended_is_sent_again_under_a_new_head(tmp_path: Path) -> None:
    """A server that has seen a prompt may have it in its cache."""
    prompts: list[bytes] = []

    async def listen(request: bytes, writer: asyncio.StreamWriter) -> None:
        prompts.append(request.partition(b"\r\n\r\n")[2])
        await answer(request, writer)

    async with serving(listen) as url:
        load = client_spec(url, arrivals=Constant(50.0), amount=Amount(requests=60), content=Content(salt=1))
        await measured(load, tmp_path / "1", Earlier(), stop_at=10)
        first = len(prompts)
        salted = msgspec.structs.replace(load.load, content=Content(salt=2))
        await measured(msgspec.structs.replace(load, load=salted), tmp_path / "2", earlier([tmp_path / "1"], load))
    assert len(prompts) > 60 and len(set(prompts)) == len(prompts)
    assert first < len(prompts)
