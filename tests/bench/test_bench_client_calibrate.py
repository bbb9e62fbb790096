"""What the client adds, seen against a server that answers at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from misbehaving import client_spec

from headrace.bench.client.calibrate import calibrate
from headrace.bench.errors import BenchError
from headrace.bench.workload.spec import Amount, ClosedLoop, Constant, Content


async def test_the_schedule_goes_to_a_null_server_and_not_to_the_one_that_is_measured() -> None:
    spec = client_spec(
        "http://127.0.0.1:9", key="k", processes=2, arrivals=Constant(100.0), amount=Amount(duration_s=600.0)
    )
    seen = await calibrate(spec, seconds=0.5)
    assert (seen.requests, seen.failed) == (50, 0)
    assert 0 < seen.ttft_sent_p50_s <= seen.ttft_p50_s <= seen.ttft_p99_s < 1
    assert 0 <= seen.lag_p50_s <= seen.lag_p99_s < 1
    assert seen.requests_per_s == pytest.approx(100, rel=0.3)
    assert seen.events_per_s == pytest.approx(4 * seen.requests_per_s)
    assert len(seen.processes) == 2


async def test_answers_that_are_no_streams_can_be_calibrated_too() -> None:
    content = Content(stream=False, path="/serving-endpoints/e/invocations")
    spec = client_spec("http://127.0.0.1:9", arrivals=ClosedLoop(users=2), amount=Amount(requests=20), content=content)
    seen = await calibrate(spec, seconds=5.0)
    assert (seen.requests, seen.failed) == (20, 0)


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await calibrate(client_spec("http://127.0.0.1:9"), seconds=5.0)
    assert not list(tmp_path.iterdir())


async def test_a_calibration_without_any_time_says_so() -> None:
    with pytest.raises(BenchError, match="duration"):
        await calibrate(client_spec("http://127.0.0.1:9", arrivals=Constant(1.0)), seconds=0.0)
