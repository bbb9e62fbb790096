"""A load run as a whole: processes, schedule, records, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import trustme
from misbehaving import GOOD, STREAM, always, chunk, client_spec, run, serving, token

from headrace.bench.client.records import Outcome, Records, TokensFrom
from headrace.bench.client.run import Run
from headrace.bench.errors import BenchError
from headrace.bench.workload.spec import Amount, ClosedLoop, Constant, Content, Poisson
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import OwnReplica, start_replica
from headrace.wire.tls import server_context


@contextlib.asynccontextmanager
async def null_server(directory: Path) -> AsyncIterator[OwnReplica]:
    model = ModelSettings(name="null", engine="simulated", engine_args={"null": True})
    replica = await start_replica(model, log=directory / "null.log")
    try:
        yield replica
    finally:
        await replica.stop()


def outcomes(records: Records) -> list[Outcome]:
    return [Outcome(outcome) for outcome in records.requests["outcome"]]


async def written(load: Run, enough: Callable[[Records], bool]) -> Records:
    """What a run has written, when that is enough."""
    async with asyncio.timeout(30):
        while not enough(seen := load.poll()):  # noqa: ASYNC110  (files tell nobody)
            await asyncio.sleep(0.02)
    return seen


async def test_every_request_of_an_open_loop_is_recorded_once_whichever_process_sent_it(tmp_path: Path) -> None:
    async with null_server(tmp_path) as server:
        spec = client_spec(
            server.url, key=server.secret, processes=2, arrivals=Constant(200.0), amount=Amount(requests=41)
        )
        records = await run(spec, tmp_path)
    requests = records.requests
    assert requests["number"].tolist() == list(range(41))
    assert (requests["process"] == requests["number"] % 2).all()
    assert set(outcomes(records)) == {Outcome.OK}
    assert requests["measured"].all()
    assert records.planned_s == pytest.approx(requests["scheduled_s"], abs=1e-9)
    assert (requests["output_tokens"] == 4).all() and (requests["events"] == 4).all()
    assert (requests["tokens_from"] == TokensFrom.AGREED).all()
    order = [requests[name] for name in ("scheduled_s", "sent_s", "first_byte_s", "first_s", "last_s", "end_s")]
    assert (np.diff(order, axis=0) >= 0).all()
    assert [report.process for report in records.processes] == [0, 1]
    assert all(report.crashed is None and report.cpu_s > 0 for report in records.processes)


async def test_events_of_a_request_stand_where_its_record_says(tmp_path: Path) -> None:
    async with null_server(tmp_path) as server:
        spec = client_spec(server.url, key=server.secret, processes=2, arrivals=ClosedLoop(users=4))
        records = await run(spec, tmp_path)
    for request in records.requests:
        span = slice(request["first_event"], request["first_event"] + request["events"])
        assert records.event_s[span][0] == pytest.approx(request["first_s"], abs=1e-9)
        assert records.event_s[span][-1] == pytest.approx(request["last_s"], abs=1e-9)
        assert records.event_tokens[span].sum() == request["output_tokens"]
    assert len(records.event_s) == records.requests["events"].sum()


async def test_users_of_a_closed_loop_send_as_many_requests_as_were_asked_for_and_no_more(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        spec = client_spec(url, processes=3, arrivals=ClosedLoop(users=2), amount=Amount(requests=11))
        records = await run(spec, tmp_path)
    assert records.requests["number"].tolist() == list(range(11))
    assert len(records.processes) == 2, "a process without a user would have nothing to do"
    again = records.requests[2:]
    assert (again["scheduled_s"] > records.requests["end_s"][:-2] - 1e-9).all(), "due when its user was free"
    assert records.requests["new_connection"].sum() == 2


async def test_an_open_loop_finds_connections_open_when_it_begins(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        quick = await run(client_spec(url, arrivals=Constant(100.0), amount=Amount(duration_s=0.01)), tmp_path)
        slow = await run(client_spec(url, arrivals=Constant(40.0), amount=Amount(requests=1)), tmp_path)
    assert outcomes(quick)[0] == outcomes(slow)[0] == Outcome.OK
    assert not quick.requests["new_connection"][0]
    assert slow.requests["new_connection"][0]


async def test_users_start_evenly_over_the_ramp(tmp_path: Path) -> None:
    async with serving(always(STREAM)) as url:  # answers that never end: each user sends one request
        spec = client_spec(url, arrivals=ClosedLoop(users=4, ramp_s=0.4), amount=Amount(requests=4), timeout_s=0.5)
        records = await run(spec, tmp_path)
    assert records.requests["scheduled_s"] == pytest.approx([0.0, 0.1, 0.2, 0.3])


async def test_load_is_kept_on_until_the_measured_requests_have_ended(tmp_path: Path) -> None:
    count = 0
    released = asyncio.Event()

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await released.wait()
        elif count == 20:
            released.set()
        writer.write(GOOD)

    async with serving(answer) as url:
        spec = client_spec(url, arrivals=Constant(50.0), amount=Amount(duration_s=0.1))
        records = await run(spec, tmp_path)
    measured = records.requests[records.requests["measured"]]
    assert len(measured) == 5 == len(records.planned_s or ())
    assert (measured["outcome"] == Outcome.OK).all()
    assert len(records.requests) >= 20
    assert measured["end_s"].max() > records.requests["scheduled_s"][18]


async def test_a_run_that_is_stopped_keeps_what_was_measured(tmp_path: Path) -> None:
    third = asyncio.Event()
    count = 0

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count <= 2:
            writer.write(GOOD)
        else:
            writer.write(STREAM + chunk(token()))
            third.set()

    async with serving(answer) as url:
        load = Run(client_spec(url, amount=Amount(duration_s=600.0)), tmp_path)
        await load.start()
        await third.wait()
        await load.stop(abort=True)
        records = await load.finish()
    assert outcomes(records) == [Outcome.OK, Outcome.OK, Outcome.UNFINISHED]


async def test_a_run_that_is_drained_lets_what_is_under_way_end(tmp_path: Path) -> None:
    asked, drained = asyncio.Event(), asyncio.Event()

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await drained.wait()
        writer.write(GOOD)

    async with serving(answer) as url:
        load = Run(client_spec(url, amount=Amount(duration_s=600.0)), tmp_path)
        await load.start()
        await asked.wait()
        await load.stop(abort=False)
        drained.set()
        records = await load.finish()
    assert Outcome.OK in outcomes(records) and Outcome.UNFINISHED not in outcomes(records)


async def test_what_is_written_so_far_can_be_read_during_the_run(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        load = Run(client_spec(url, amount=Amount(duration_s=600.0)), tmp_path)
        await load.start()
        seen = await written(load, lambda seen: len(seen.requests) >= 2)
        copy = seen.requests.copy()
        await load.stop(abort=True)
        records = await load.finish()
    assert len(records.requests) >= len(copy)
    assert (seen.requests == copy).all(), "what was handed out stays as it was"
    assert (records.requests[: len(copy)] == copy).all()


async def test_a_process_that_crashes_is_reported_and_its_records_are_kept(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        spec = client_spec(url, processes=2, arrivals=ClosedLoop(users=2), amount=Amount(duration_s=600.0))
        load = Run(spec, tmp_path)
        await load.start()
        await written(load, lambda seen: bool((seen.requests["process"] == 1).any()))
        os.kill(load.pids[1], signal.SIGKILL)
        await load.stop(abort=True)
        records = await load.finish()
    first, second = records.processes
    assert first.crashed is None
    assert second.crashed is not None and "-9" in second.crashed
    assert (records.requests["process"] == 1).any()


async def test_a_worker_that_cannot_write_ends_with_the_reason_and_does_not_go_on_in_vain(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        load = Run(client_spec(url, amount=Amount(duration_s=600.0)), tmp_path)
        await load.start()
        await written(load, lambda seen: len(seen.requests) >= 1)
        resource.prlimit(load.pids[0], resource.RLIMIT_FSIZE, (0, 0))
        async with asyncio.timeout(30):
            records = await load.finish()
    (process,) = records.processes
    assert process.crashed is not None and "File too large" in process.crashed
    assert len(records.requests) >= 1


async def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from misbehaving import client_spec
from headrace.bench.client.run import Run
from headrace.bench.workload.spec import Amount

async def main():
    run = Run(client_spec(sys.argv[1], amount=Amount(duration_s=600.0)), Path(sys.argv[2]))
    await run.start()
    print(*run.pids, flush=True)
    await run.finish()

asyncio.run(main())
"""
    async with serving(always(GOOD)) as url:
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, url, str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        assert parent.stdout is not None
        async with asyncio.timeout(60):
            worker = os.pidfd_open(int(await parent.stdout.readline()))
            parent.kill()
            await parent.wait()
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(worker, ended.set)
            await ended.wait()
        asyncio.get_running_loop().remove_reader(worker)
        os.close(worker)


async def test_load_goes_over_tls_to_a_server_known_by_its_certificate_and_to_no_other(tmp_path: Path) -> None:
    own = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(own.cert_chain_pems[0].bytes())
    own.private_key_pem.write_to_path(key)
    async with serving(always(GOOD), tls=server_context(certificate, key)) as url:
        known = await run(client_spec(url, certificate=str(certificate)), tmp_path)
        unknown = await run(client_spec(url, amount=Amount(requests=1)), tmp_path)
    assert set(outcomes(known)) == {Outcome.OK}
    assert known.requests["new_connection"].sum() == 1
    assert outcomes(unknown) == [Outcome.FAILED]
    assert "its certificate is not trusted" in unknown.errors[0]


async def test_ctrl_c_reaches_no_worker(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        load = Run(client_spec(url, amount=Amount(duration_s=600.0)), tmp_path)
        await load.start()
        os.kill(load.pids[0], signal.SIGINT)
        await load.stop(abort=True)
        records = await load.finish()
    assert records.processes[0].crashed is None


async def test_the_key_stands_in_no_argument_and_no_environment(tmp_path: Path) -> None:
    async with serving(always(GOOD)) as url:
        spec = client_spec(url, key="a-very-secret-key", amount=Amount(duration_s=600.0))
        load = Run(spec, tmp_path)
        await load.start()
        process = Path(f"/proc/{load.pids[0]}")
        assert b"a-very-secret-key" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        await load.stop(abort=True)
        await load.finish()
    assert "a-very-secret-key" not in repr(spec)


async def test_requests_go_out_when_they_are_due_whatever_the_server_does(tmp_path: Path) -> None:
    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(silent) as url:
        spec = client_spec(url, arrivals=Poisson(100.0), amount=Amount(requests=30), timeout_s=0.3)
        records = await run(spec, tmp_path)
    requests = records.requests
    assert len(requests) == 30 and set(outcomes(records)) == {Outcome.TIMED_OUT}
    assert records.planned_s == pytest.approx(requests["scheduled_s"], abs=1e-9)
    assert np.median(requests["sent_s"] - requests["scheduled_s"]) < 0.05


async def test_nothing_is_started_for_a_host_that_has_no_address(tmp_path: Path) -> None:
    load = Run(client_spec("http://no-such-host.invalid:8000"), tmp_path)
    with pytest.raises(BenchError, match=r"no address for 'no-such-host\.invalid'.*check the URL"):
        await load.start()
    assert not load.pids


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "127.0.0.1:8000", "http://u:p@127.0.0.1", "http://h:99999", "http://"]
)
def test_a_url_that_cannot_be_used_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"URL|cannot put load on"):
        Run(client_spec(url), tmp_path)


def test_a_key_that_would_break_out_of_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="characters that no header may have"):
        Run(client_spec("http://127.0.0.1:1", key="a\r\nx: y"), tmp_path)


async def test_a_path_in_front_of_the_api_and_one_in_place_of_it_are_asked_for(tmp_path: Path) -> None:
    targets: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        targets.append(request.split(b" ")[1])
        writer.write(GOOD)

    async with serving(answer) as url:
        await run(client_spec(f"{url}/proxy/v1/", amount=Amount(requests=1)), tmp_path)
        there = Content(force_length=False, path="/serving-endpoints/e/invocations")
        await run(client_spec(url, amount=Amount(requests=1), content=there), tmp_path)
    assert targets == [b"/proxy/v1/completions", b"/serving-endpoints/e/invocations"]
