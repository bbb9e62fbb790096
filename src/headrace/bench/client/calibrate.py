"""What the client itself adds to what it measures: the same schedule against a server that answers at once.

What a request takes there is the client's, the kernel's and the null server's; so it is an upper bound of the error of
a latency measured under this schedule on this machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Outcome, ProcessReport, Records
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.errors import BenchError
from headrace.bench.workload.spec import Amount
from headrace.engines.base import EngineError, ModelSettings
from headrace.fleet.spawn import start_replica

TIMEOUT_S = 10.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds."""

    requests: int
    """Measured and answered."""
    failed: int
    ttft_p50_s: float
    """From when a request was due to its first event."""
    ttft_p99_s: float
    ttft_sent_p50_s: float
    """From when it was sent."""
    ttft_sent_p99_s: float
    lag_p50_s: float
    """How late requests were sent."""
    lag_p99_s: float
    requests_per_s: float
    events_per_s: float
    processes: tuple[ProcessReport, ...]
    stolen_share: float
    """Of the machine's CPU time, taken by the hypervisor."""


async def calibrate(spec: ClientSpec, seconds: float) -> Calibration:
    """Run the load of ``spec`` for so long against a null server in a process of its own.

    A closed loop has no schedule: its users go round as fast as the null server lets them, which asks more of the
    client than any other server would. Raises BenchError where no request was answered.
    """
    model = ModelSettings(name="null", engine="simulated", engine_args={"null": True})
    with tempfile.TemporaryDirectory(prefix="headrace-calibration-") as directory:
        folder = Path(directory)
        try:
            server = await start_replica(model, log=folder / "null-server.log")
        except EngineError as error:
            raise BenchError(f"the null server for the calibration did not start: {error}") from None
        try:
            run = Run(_against(spec, server.url, server.secret, seconds), folder)
            await run.start()
            records = await run.finish()
        finally:
            await server.stop()
    return _calibration(records)


def _against(spec: ClientSpec, url: str, key: str, seconds: float) -> ClientSpec:
    amount = Amount(requests=spec.load.amount.requests, duration_s=seconds)
    content = msgspec.structs.replace(spec.load.content, path=None)
    load = msgspec.structs.replace(spec.load, amount=amount, content=content, sessions=None)
    return msgspec.structs.replace(
        spec, load=load, url=url, key=key, certificate=None, retries=0, timeout_s=min(TIMEOUT_S, spec.timeout_s)
    )


def _calibration(records: Records) -> Calibration:
    measured = records.requests[records.requests["measured"]]
    good = measured[measured["outcome"] == Outcome.OK]
    if not len(good):
        said = f" ({records.errors[0]})" if records.errors else ""
        raise BenchError(f"the null server answered no request of the calibration{said}; give it more seconds")
    # An answer that is no stream has no first event: its end is taken.
    first_s = np.where(np.isnan(good["first_s"]), good["end_s"], good["first_s"])
    ttft, sent, lag = first_s - good["scheduled_s"], first_s - good["sent_s"], good["sent_s"] - good["scheduled_s"]
    span_s = float(good["end_s"].max() - good["scheduled_s"].min())
    return Calibration(
        requests=len(good),
        failed=len(measured) - len(good),
        ttft_p50_s=_quantile(ttft, 0.5),
        ttft_p99_s=_quantile(ttft, 0.99),
        ttft_sent_p50_s=_quantile(sent, 0.5),
        ttft_sent_p99_s=_quantile(sent, 0.99),
        lag_p50_s=_quantile(lag, 0.5),
        lag_p99_s=_quantile(lag, 0.99),
        requests_per_s=len(good) / span_s,
        events_per_s=float(good["events"].sum()) / span_s,
        processes=records.processes,
        stolen_share=records.stolen_share,
    )


def _quantile(values: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(values, share, method="higher"))
