"""The course of a profile on simulated engines and a virtual clock: an hour of it takes seconds.

The engines are the simulated ones' batching on an event loop whose time jumps to the next thing that is due. Plan,
stations, scan and fits are those that measure real replicas; only the HTTP between is missing.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable
from typing import Any

from headrace.bench.profiling.asking import Asked
from headrace.bench.profiling.clock import Clock
from headrace.bench.profiling.course import Runner, run_course
from headrace.bench.profiling.effort import Effort
from headrace.bench.profiling.outcome import Measured, Measurement, evaluate
from headrace.bench.profiling.prompts import Prompts
from headrace.bench.profiling.replicas import Replica
from headrace.bench.profiling.shapes import Shape
from headrace.bench.slo import Slo
from headrace.engines.base import EngineTraits, ModelSettings
from headrace.engines.simulated.batching import BatchingCore, BatchRequest, Iteration, Token
from headrace.engines.simulated.live import LiveBatch
from headrace.profiles.profile import IterationTime


class _Jump(selectors.DefaultSelector):
    """Passes the time that an event loop would wait instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits and nothing is due: a virtual clock has nowhere to jump to")
        self.passed_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only in jumps. Nothing in it may wait for the world outside."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.passed_s


class LoopClock(Clock):
    """The running loop's time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()

    def now(self) -> float:
        return self._loop.time() - self._zero


class NoisyCore(BatchingCore):
    """Iterations take longer or shorter than the model says, by a factor that ``slow`` draws."""

    def __init__(self, iteration: IterationTime, slots: int, slow: Callable[[], float]) -> None:
        super().__init__(iteration, slots, prefix_cache=True)
        self._slow = slow

    def next_iteration(self) -> Iteration | None:
        found = super().next_iteration()
        if found is None:
            return None
        return Iteration(
            found.duration_s * self._slow(),
            found.prefill_tokens,
            found.decode_sequences,
            found.context_tokens,
            found.tokens,
        )


class VirtualReplica:
    """Answers a station's requests."""

    def __init__(self, core: BatchingCore, clock: Clock, prompts: Prompts, *, tells_cached: bool = True) -> None:
        self._batch = LiveBatch(core)
        self._clock = clock
        self._prompts = prompts
        self._tells_cached = tells_cached

    async def measure(self, shape: Shape, number: int) -> Asked:
        ended: asyncio.Future[Token] = asyncio.get_running_loop().create_future()
        sent_s = self._clock.now()
        first_s = sent_s

        def on_token(token: Token) -> None:
            nonlocal first_s
            if token.index == 1:
                first_s = self._clock.now()
            if token.last and not ended.done():
                ended.set_result(token)

        prompt = self._prompts.tokens(shape, number)
        id = str(number)
        self._batch.submit(BatchRequest(id, shape.input_tokens, shape.output_tokens, prompt), on_token)
        try:
            last = await ended
        except asyncio.CancelledError:
            self._batch.cancel(id)
            raise
        now = self._clock.now()
        return Asked(
            sent_s,
            now,
            first_s=first_s,
            last_s=now,
            input_tokens=shape.input_tokens,
            output_tokens=shape.output_tokens,
            cached_tokens=last.cached_tokens if self._tells_cached else None,
        )


def virtual_profile(
    truth: IterationTime,
    effort: Effort,
    *,
    slots: int,
    replicas: int = 2,
    context: int = 4096,
    seed: int = 0,
    noise: float = 0.0,
    tells_cached: bool = True,
    slo: Slo | None = None,
) -> Measured:
    """What a profile finds of an engine that it does not know. ``slots``: the most to try.

    ``noise``: standard deviation of the logarithm of a factor on the time of each second's iterations, redrawn every
    second, as a machine's speed wanders.
    """
    model = ModelSettings(name="virtual", engine="simulated", slots=slots, context=context)

    async def run() -> Measured:
        clock = LoopClock()
        prompts = Prompts(seed)
        servers = [
            VirtualReplica(
                NoisyCore(truth, slots, _wander(noise, random.Random(f"{seed}/{index}"), clock)),
                clock,
                prompts,
                tells_cached=tells_cached,
            )
            for index in range(replicas)
        ]
        runner = Runner([server.measure for server in servers], clock, effort, seed=seed)
        course = await run_course(runner, slots=slots, context=context, slo=slo)
        return evaluate(
            Measurement(
                model=model,
                effort=effort,
                course=course,
                replicas=[Replica("virtual:", "", EngineTraits(), None, None, "virtual")] * replicas,
                starts_s=[],
                memory_bytes=[],
                others=None,
                duration_s=clock.now(),
            )
        )

    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        return loop.run(run())


def _wander(noise: float, draw: random.Random, clock: Clock) -> Callable[[], float]:
    if not noise:
        return lambda: 1.0
    second, factor = -1, 1.0

    def slow() -> float:
        nonlocal second, factor
        if int(clock.now()) != second:
            second, factor = int(clock.now()), draw.lognormvariate(0.0, noise)
        return factor

    return slow
