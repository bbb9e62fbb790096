"""The iteration-time model from a profile's blocks.

With one request in flight, the time to the first token and the time from there to the last are measured apart, as the
engine sends them; with several, a block as a whole is compared with the same block worked out iteration by iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from statistics import fmean

from headrace.bench.profiling.course import Course
from headrace.bench.profiling.evidence import Blocks
from headrace.bench.profiling.plan import Block
from headrace.bench.profiling.shapes import Case, Shape
from headrace.bench.profiling.station import Turn
from headrace.profiles.iteration import IterationFit, Timed, fit_iteration
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import NOTHING, Content, completions, decode_content, prefill_content


@dataclass(frozen=True, slots=True)
class IterationEvidence:
    """A fitted model and what it was fitted to."""

    fit: IterationFit
    cases: tuple[Case, ...]
    """Of each measured time."""
    seconds: tuple[float, ...]

    @property
    def model(self) -> IterationTime:
        return self.fit.model


def fit_blocks(blocks: Blocks, course: Course) -> IterationEvidence:
    """The model for all cases but the held out ones."""
    cases: list[Case] = []
    timed: list[Timed] = []
    for case in blocks.cases:
        if case.shape not in course.menu.held_out:
            mine = list(_timed(case, blocks.of(case)))
            timed += mine
            cases += [case] * len(mine)
    most = max(case.in_flight for case in cases)
    fit = fit_iteration(timed, budget=_told_budget(blocks), least_budget=most)
    return IterationEvidence(fit, tuple(cases), tuple(one.seconds for one in timed))


def predicted_s(model: IterationTime, turns: Sequence[Turn]) -> float:
    """Replica seconds of a request, as the model says of blocks of one case."""
    return _mean_content([turn.block for turn in turns], model.prefill_budget).seconds(model)


def _timed(case: Case, turns: Sequence[Turn]) -> list[Timed]:
    shape = case.shape
    if case.in_flight > 1:
        return [Timed(fmean(turn.seconds for turn in turns), partial(_mean_content, [turn.block for turn in turns]))]
    cached = round(fmean(turn.cached_tokens for turn in turns))
    prefills = [turn.prefill_s for turn in turns if turn.prefill_s is not None]
    decodes = [turn.decode_s for turn in turns if turn.decode_s is not None]
    timed = [Timed(fmean(prefills), partial(_prefill, shape, cached))]
    if decodes:
        timed.append(Timed(fmean(decodes), partial(_decode, shape)))
    return timed


def _prefill(shape: Shape, cached: int, budget: int) -> Content:
    return prefill_content(budget, new=shape.input_tokens - cached, cached=cached)


def _decode(shape: Shape, budget: int) -> Content:
    return decode_content(inputs=shape.input_tokens, out=shape.output_tokens)


def _mean_content(blocks: Sequence[Block], budget: int) -> Content:
    total = NOTHING
    for block in blocks:
        total = total.plus(_content(block, budget))
    return total.over(len(blocks))


@lru_cache(maxsize=4096)
def _content(block: Block, budget: int) -> Content:
    """Of a request of the block."""
    shape = block.case.shape
    loop = completions(
        budget,
        in_flight=block.case.in_flight,
        new=shape.new_tokens,
        out=shape.output_tokens,
        cached=shape.cached_tokens,
        cold=block.cold,
    )
    ends = [NOTHING, *islice(loop, block.completions)]
    total = NOTHING
    for begin, end in block.windows():
        total = total.plus(ends[end]).plus(ends[begin], -1)
    return total.over(len(block.windows()) * block.measured)


def _told_budget(blocks: Blocks) -> int | None:
    """Most prompt tokens between two reports of progress, from prompts that took several."""
    steps = [
        (asked.prefill_step, asked.input_tokens - (asked.cached_tokens or 0))
        for case in blocks.cases
        for turn in blocks.of(case)
        for asked in turn.asked
        if asked.prefill_step
    ]
    return max((step for step, new in steps if step < new), default=None)
