"""Which load the options of ``headrace load`` ask for: users or a rate, one level or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.cli import load_words, times
from headrace.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from headrace.bench.target import Target
    from headrace.bench.workload.source import Workload
    from headrace.bench.workload.spec import Amount, Arrivals, Sessions


@dataclass(frozen=True, slots=True)
class Shape:
    """Which load, as the command line says it."""

    users: str | None
    ramp: float
    rate: str | None
    rate_chunks: str | None
    rate_requests: str | None
    arrivals: str | None
    time_scale: float | None
    stages: str | None

    def check(self, amount: Amount) -> None:
        """Raises UsageError where the words do not fit together."""
        loads = [given for given in (self.users, self.rate, self.rate_chunks, self.rate_requests, self.stages) if given]
        if len(loads) > 1:
            raise UsageError("give one of --users, --rate, --rate-chunks, --rate-requests and --stages")
        trace = self.arrivals == "trace"
        if self.time_scale is not None and not trace:
            raise UsageError("--time-scale goes with --arrivals trace")
        if self.time_scale is not None and loads:
            raise UsageError("give one of --time-scale and a rate: both say how fast the trace is played")
        if self.ramp and not self.users:
            raise UsageError("--ramp goes with --users")
        if self.arrivals and (self.users or self.stages):
            raise UsageError("--arrivals goes with a rate; --users is a closed loop, and --stages are Poisson arrivals")
        if self.arrivals and not trace and not loads:
            raise UsageError(f"--arrivals {self.arrivals} needs a rate: --rate, --rate-chunks or --rate-requests")
        if amount.requests is None and amount.duration_s is None and not trace and not self.stages:
            which = (
                "" if loads else "which load: --users N (default 1), --rate, --rate-chunks or --rate-requests R; and "
            )
            raise UsageError(f"say {which}how much: --requests N, --duration TIME, or both")

    def sessions(self, think: str) -> Sessions:
        """``think``: as ``--sessions`` says it. Raises UsageError where it is no open loop of so many a second."""
        from headrace.bench.workload.spec import Sessions  # noqa: PLC0415

        if not (self.rate_requests or self.stages) or self.arrivals == "trace":
            raise UsageError("--sessions goes with --rate-requests or --stages, which say how many begin a second")
        return Sessions(think_s=times.seconds("--sessions", think, least=0))

    def amount(self, amount: Amount, arrivals: Arrivals) -> Amount:
        """Stages end by themselves."""
        from headrace.bench.workload.spec import Amount, Stages  # noqa: PLC0415

        if isinstance(arrivals, Stages) and amount.duration_s is None:
            return Amount(requests=amount.requests, duration_s=sum(stage.seconds for stage in arrivals.stages))
        return amount

    def levels(self, target: Target, workload: Workload) -> list[Arrivals]:
        """One run for each. Raises UsageError and CommandError."""
        from headrace.bench.workload.spec import ClosedLoop, Replay  # noqa: PLC0415

        if self.stages is not None:
            return [load_words.stages(self.stages)]
        rates = self._rates(target, workload)
        if self.arrivals == "trace":
            if workload.trace_s is None:
                raise UsageError("--arrivals trace needs a --dataset with times: azure, mooncake or burstgpt")
            if rates is not None:
                return [Replay(rate=rate) for rate in rates]
            return [Replay(time_scale=1.0 if self.time_scale is None else self.time_scale)]
        if rates is not None:
            return [load_words.arrivals(self.arrivals or "poisson", rate) for rate in rates]
        users = load_words.levels("--users", self.users or "1")
        if any(level != int(level) for level in users):
            raise UsageError(f"--users is {self.users!r}; expected whole numbers")
        return [ClosedLoop(users=int(level), ramp_s=self.ramp) for level in users]

    def _rates(self, target: Target, workload: Workload) -> list[float] | None:
        """Requests/s; None for a closed loop."""
        if self.rate_requests is not None:
            return load_words.levels("--rate-requests", self.rate_requests)
        option, words = ("--rate", self.rate) if self.rate is not None else ("--rate-chunks", self.rate_chunks)
        if words is None:
            return None
        rates = load_words.levels(option, words)
        terms = target.terms
        if terms.weights is None:
            raise CommandError(
                f"{option} is in reference tokens, and {target.url} tells no work weights of {target.model!r} to this "
                "key; use --rate-requests"
            )
        if option == "--rate-chunks":
            if terms.chunk is None:
                raise CommandError(
                    f"the served entities of {target.model!r} have chunks of different sizes; use --rate"
                )
            rates = [rate * terms.chunk for rate in rates]
        work = _mean_work(terms.weights, workload)
        return [rate / work for rate in rates]


def check_enough(arrivals: Arrivals, amount: Amount) -> None:
    """Raises UsageError for a rate at which not even one request falls into the time."""
    from headrace.bench.workload.spec import Constant, Gamma, Poisson  # noqa: PLC0415

    if not isinstance(arrivals, Constant | Gamma | Poisson) or amount.duration_s is None:
        return
    if arrivals.rate * amount.duration_s < 1:
        raise UsageError(
            f"{arrivals.rate:.2g} requests/s for {times.span(amount.duration_s)} is less than one request: one comes "
            f"every {times.span(1 / arrivals.rate)}; give a longer --duration or a higher rate"
        )


def _mean_work(weights: Any, workload: Workload) -> float:
    """Reference tokens of a request, on average. Raises UsageError where its lengths are not known."""
    import numpy as np  # noqa: PLC0415

    inputs, outputs = workload.lengths[:, 0], workload.lengths[:, 1]
    work = float(np.mean(weights.work(inputs, 0, outputs)))
    if not work > 0:
        raise UsageError("--rate and --rate-chunks need requests of known lengths; use --rate-requests with these")
    return work
