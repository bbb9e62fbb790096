"""A load run: users or a constant rate on one endpoint, and what came of it."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from headrace.bench.asking import Server, ask
from headrace.bench.errors import BenchError
from headrace.bench.loops import Clock, closed_loop, constant_rate, open_loop
from headrace.bench.metrics import DEFINITIONS, Summary, summarize
from headrace.bench.prompts import Prompts
from headrace.bench.samples import Sample
from headrace.policy.work import Weights
from headrace.wire.client import Client

REPORT_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes."""

    url: str
    model: str
    key: str | None = field(repr=False)
    weights: Weights | None
    """Of the endpoint; None where the server tells none."""
    timeout_s: float = 600.0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """For https; None for the system's authorities."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much, and for how long. Exactly one of ``users`` and ``requests_per_s``; at least one limit."""

    users: int | None = None
    requests_per_s: float | None = None
    requests: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if (self.users is None) == (self.requests_per_s is None):
            raise BenchError("give either a number of users (closed loop) or a rate (open loop)")
        if self.users is not None and self.users < 1:
            raise BenchError(f"users is {self.users}; expected 1 or more")
        if self.requests_per_s is not None and not 0 < self.requests_per_s < 1e6:
            raise BenchError(
                f"the rate is {self.requests_per_s:g} requests/s; expected more than 0 and below a million"
            )
        if self.requests is None and self.duration_s is None:
            raise BenchError("give a number of requests or a duration, or the run would never end")
        if self.requests is not None and self.requests < 1:
            raise BenchError(f"requests is {self.requests}; expected 1 or more")
        if self.duration_s is not None and self.duration_s <= 0:
            raise BenchError(f"the duration is {self.duration_s:g} s; expected more than 0")

    @property
    def loop(self) -> Literal["closed", "open"]:
        return "closed" if self.users is not None else "open"


class Now(msgspec.Struct, frozen=True):
    """How a run stands at this moment."""

    elapsed_s: float
    sent: int
    in_flight: int
    ok: int
    rejected: int
    unavailable: int
    failed: int
    tokens: int
    """Input and output, of complete answers."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a run; written as JSON."""

    url: str
    model: str
    loop: str
    users: int | None
    requests_per_s_planned: float | None
    reference_tokens_per_s_planned: float | None
    began_ms: int
    """Unix time."""
    interrupted: bool
    summary: Summary
    definitions: dict[str, str]
    samples: list[Sample]


class Run:
    """One load run; make it, then ``await run()``. ``stop`` ends it at once with what was measured."""

    def __init__(self, target: Target, load: Load, prompts: Prompts) -> None:
        self._target = target
        self._load = load
        self._prompts = prompts
        self._clock = Clock()
        self._stop = asyncio.Event()
        self._samples: list[Sample] = []
        self._sent = 0

    def stop(self) -> None:
        self._stop.set()

    def now(self) -> Now:
        count = {"ok": 0, "rejected": 0, "unavailable": 0, "failed": 0, "unfinished": 0}
        for sample in self._samples:
            count[sample.outcome] += 1
        return Now(
            elapsed_s=self._clock.now(),
            sent=self._sent,
            in_flight=self._sent - len(self._samples),
            ok=count["ok"],
            rejected=count["rejected"],
            unavailable=count["unavailable"],
            failed=count["failed"],
            tokens=sum(s.input_tokens + s.output_tokens for s in self._samples if s.outcome == "ok"),
        )

    async def run(self) -> Result:
        """Raises BenchError for a URL that cannot be used; what the server does is a result and no error."""
        parts = urlsplit(self._target.url)
        try:
            client = Client(f"{parts.scheme}://{parts.netloc}", max_idle=1024, tls=self._target.tls)
        except ValueError:
            raise BenchError(
                f"cannot put load on {self._target.url!r}; expected http://HOST:PORT or https://HOST:PORT"
            ) from None
        base = parts.path.rstrip("/").removesuffix("/v1")
        server = Server(client, self._target.model, self._target.key, base, self._target.timeout_s)
        began_ms = time.time_ns() // 1_000_000
        self._clock = Clock()

        async def send(number: int, scheduled_s: float) -> None:
            await self._send(server, number, scheduled_s)

        load = self._load
        async with client:
            if load.users is not None:
                await closed_loop(
                    send,
                    users=load.users,
                    requests=load.requests,
                    duration_s=load.duration_s,
                    clock=self._clock,
                    stop=self._stop,
                )
            else:
                assert load.requests_per_s is not None
                due = constant_rate(load.requests_per_s, requests=load.requests, duration_s=load.duration_s)
                await open_loop(send, due=due, clock=self._clock, stop=self._stop)
        return self._result(began_ms)

    async def _send(self, server: Server, number: int, scheduled_s: float) -> None:
        self._sent += 1
        sent_s = self._clock.now()
        try:
            sample = await ask(server, self._prompts.prompt(number), number, scheduled_s, self._clock)
        except asyncio.CancelledError:
            end_s = self._clock.now()
            self._samples.append(
                Sample(number=number, outcome="unfinished", scheduled_s=scheduled_s, sent_s=sent_s, end_s=end_s)
            )
            raise
        self._samples.append(sample)

    def _result(self, began_ms: int) -> Result:
        load, weights = self._load, self._target.weights
        planned = None
        prompt = self._prompts.prompt(0)
        if load.requests_per_s is not None and weights is not None and prompt.input_tokens is not None:
            planned = load.requests_per_s * weights.work(prompt.input_tokens, 0, prompt.body["max_tokens"])
        return Result(
            url=self._target.url,
            model=self._target.model,
            loop=load.loop,
            users=load.users,
            requests_per_s_planned=load.requests_per_s,
            reference_tokens_per_s_planned=planned,
            began_ms=began_ms,
            interrupted=self._stop.is_set(),
            summary=summarize(self._samples, weights),
            definitions=DEFINITIONS,
            samples=sorted(self._samples, key=lambda sample: sample.number),
        )


async def run_load(
    target: Target, load: Load, prompts: Prompts, progress: Callable[[Now], None] | None = None
) -> Result:
    """Run it; Ctrl-C ends it with what was measured. ``progress`` is called now and then."""
    run = Run(target, load, prompts)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop)
    reporter = None if progress is None else asyncio.create_task(_report(run, progress))
    try:
        return await run.run()
    finally:
        if reporter is not None:
            reporter.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _report(run: Run, progress: Callable[[Now], None]) -> None:
    while True:
        progress(run.now())
        await asyncio.sleep(REPORT_EVERY_S)
