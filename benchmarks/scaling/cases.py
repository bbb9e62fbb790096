"""What is simulated: traffic, replicas, range, and what a good answer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replicas import Engine, llama_70b_a100, llama_70b_h100, smollm2
from workloads import Workload, day, moved, steps, trace

from headrace.planner.result import Limits
from headrace.policy.terms import Terms

AZURE = "azure-2023-conversation.csv.xz"
MOONCAKE = "mooncake-conversation.jsonl.xz"

CHAT = Limits(ttft_s=2.0, tpot_s=0.2)
"""Of MLPerf Inference's server scenario for Llama-2-70B."""
LONG = Limits(ttft_s=30.0, tpot_s=0.3)
"""Mooncake's own limit of the time to the first token (arXiv 2407.00079), and three times its limit of 0.1 s between
two: it decodes where no prompt is processed, and here both are on one replica."""
SLOW = Limits(ttft_s=45.0, tpot_s=0.2)
"""A small model on one core: 14 s to the first token of a reference request on an idle replica."""
HOUR_S = 3500.0
"""Of a trace: both last a little longer."""
STEP = ((1.0, 300.0), (8.0, 600.0), (1.0, 900.0))
"""Chunks of demand, and for how many seconds."""

SEEDS = 1000
"""Between those of two draws."""

Make = Callable[[Path, int], Workload]
"""Traffic, of the folder with the traces and the number of a draw of chance; the tables are of draw 0. Raises
MissingError."""

MADE_ON = ("step 1-8-1", "azure-2023-conversation", "mooncake-conversation", "a day in an hour, bursts")
QUICK = ("step 1-8-1", "azure-2023-conversation", "a day in an hour, bursts")
"""Of them, those of a quick run."""


@dataclass(frozen=True)
class Case:
    name: str
    engine: Engine
    make: Make
    limits: Limits
    start_s: float
    """Of a replica."""
    until_s: float
    max_chunks: int = 12
    ready: int = 1
    """Chunks at the beginning."""
    risen: tuple[float, int] | None = None
    """When demand rises, and to how many chunks; None: it wanders."""
    context: int = 8192

    @property
    def held_out(self) -> bool:
        """Not looked at while the law was made."""
        return self.name not in MADE_ON

    @property
    def words(self) -> str:
        limits = f"TTFT {self.limits.ttft_s:g} s, TPOT {1000 * self.limits.tpot_s:g} ms"
        return f"{self.engine.name}, k {self.engine.slots}, start {self.start_s:g} s; {limits}"

    @property
    def terms(self) -> Terms:
        return Terms(
            chunk=self.engine.chunk,
            min_chunks=1,
            max_chunks=self.max_chunks,
            weights=self.engine.weights,
            context=self.context,
            slots=self.engine.slots,
            default_max_tokens=512,
            max_queue=100_000,
        )


def _steps(engine: Engine, stages: tuple[tuple[float, float], ...], seed: int) -> Make:
    return lambda folder, draw: steps(engine.chunk, stages, seed + SEEDS * draw)


def _day(engine: Engine, chunks: tuple[float, float], seed: int, variation: float = 2.0) -> Make:
    work_s = (chunks[0] * engine.chunk, chunks[1] * engine.chunk)
    return lambda folder, draw: day(work_s, int(HOUR_S), variation, seed + SEEDS * draw)


def _trace(name: str, keep: float, most_tokens: int, seed: int) -> Make:
    def make(folder: Path, draw: int) -> Workload:
        recorded = trace(folder / name, keep=keep, most_tokens=most_tokens, seed=seed)
        return moved(recorded, HOUR_S + 60, draw) if draw else recorded

    return make


def _mooncake(keep: float, seed: int) -> Make:
    return _trace(MOONCAKE, keep, 32_768, seed)


def cases() -> list[Case]:
    h100, a100, small = llama_70b_h100(), llama_70b_a100(), smollm2()
    long = llama_70b_h100(long=True)
    seconds = sum(lasting for _, lasting in STEP)
    return [
        Case("step 1-8-1", h100, _steps(h100, STEP, 1), CHAT, 5.0, seconds, risen=(300.0, 8)),
        Case("azure-2023-conversation", a100, _trace(AZURE, 1.0, 8192, 0), CHAT, 30.0, HOUR_S, max_chunks=16, ready=6),
        Case(
            "mooncake-conversation", long, _mooncake(0.8, 0), LONG, 30.0, HOUR_S, max_chunks=16, ready=6, context=32_768
        ),
        Case(
            "step 1-8-1, small model", small, _steps(small, STEP, 2), SLOW, 5.0, seconds, risen=(300.0, 8), context=4096
        ),
        Case("azure, half on H100", h100, _trace(AZURE, 0.5, 8192, 7), CHAT, 60.0, HOUR_S, ready=2),
        Case("azure, all on H100", h100, _trace(AZURE, 1.0, 8192, 0), CHAT, 5.0, HOUR_S, ready=3),
        Case("mooncake, half, start 5 s", long, _mooncake(0.5, 3), LONG, 5.0, HOUR_S, ready=4, context=32_768),
        Case("azure, 70% of users", a100, _trace(AZURE, 0.7, 8192, 11), CHAT, 30.0, HOUR_S, ready=4),
        Case("mooncake, 65% of users", long, _mooncake(0.65, 9), LONG, 30.0, HOUR_S, ready=5, context=32_768),
        Case("a day in an hour, bursts", a100, _day(a100, (1.0, 8.0), 9), CHAT, 30.0, HOUR_S),
        Case("constant 5.5 chunks", a100, _steps(a100, ((5.5, HOUR_S),), 5), CHAT, 30.0, HOUR_S, ready=6),
        Case("bursts around 2.5 chunks", h100, _day(h100, (2.5, 2.5), 21, 3.0), CHAT, 5.0, HOUR_S, ready=3),
    ]
