"""In what order cases are measured, how often, and until when.

The plan is pure: it is told the time and how long requests took, and says what every replica does next. Cases take
turns in a seeded random order, so that a slow drift of the machine falls on all of them alike. A block that others
disturbed tells how long it took and nothing else, so that its case comes first again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from headrace.bench.profiling.shapes import REFERENCE, Case
from headrace.profiles.chunk import interval

BLOCK_S = 1.0
"""A block of short requests lasts at least about this long, so that the noise of one turn-around does not rule it, and
the clock ticks by which the disturbance is told are many."""

FEWEST_ROUNDS = 4
"""Rounds before a measurement may end because it is precise: a machine's slow changes must have had time to show."""

PRECISE = 0.005
"""Half of the 95% interval of a case's seconds, relative to their mean, that is precise enough to stop before time."""

OVERLAPPING_TURNS = 3
"""Turns of a block with several in flight. How far the others are when one completes differs from turn to turn, by an
iteration of prefill or so; that error is made at the ends of a window, so it shrinks with its length."""

MOST_TURNS = 64
"""Turns of a case in one block, however quick it is."""


@dataclass(frozen=True, slots=True)
class Block:
    """Requests of one case. The first ``skipped`` completions are not measured."""

    case: Case
    skipped: int
    measured: int

    @property
    def completions(self) -> int:
        return self.skipped + self.measured

    @property
    def cold(self) -> int:
        """Requests at the start that find nothing in the cache."""
        return self.case.in_flight if self.case.shape.cached_tokens else 0

    def windows(self) -> list[tuple[int, int]]:
        """Pairs of completions between which ``measured`` requests were done; 0 is the beginning.

        With several in flight only between completions in a steady state, over whole turns, does as much work enter
        the window as leaves it; one window from each completion of a turn averages out what the others had done.
        """
        many = self.case.in_flight
        first = 0 if many == 1 and not self.cold else self.skipped - many + 1
        return [(first + slot, first + slot + self.measured) for slot in range(many)]


def sized(case: Case, expected_s: float, turns: int = OVERLAPPING_TURNS) -> Block:
    """A block of about ``BLOCK_S`` for requests of ``expected_s`` replica seconds; ``turns`` where long ones overlap.
    Short ones cost little and lose more at the ends of a window, so they always get ``OVERLAPPING_TURNS``."""
    many = case.in_flight
    if 2 * case.shape.tokens < REFERENCE.tokens:
        turns = OVERLAPPING_TURNS
    enough = min(MOST_TURNS, max(1, math.ceil(BLOCK_S / (expected_s * many)))) if expected_s < math.inf else 1
    if case.shape.cached_tokens:
        enough = max(enough, OVERLAPPING_TURNS)  # filling the cache takes far longer than a request that finds it
    if many == 1:
        return Block(case, skipped=1 if case.shape.cached_tokens else 0, measured=enough)
    skipped = 2 * many if case.shape.cached_tokens else many
    return Block(case, skipped=skipped, measured=max(enough, turns) * many)


class Plan:
    """The blocks that all replicas go through, decided one after another as time allows."""

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        seed: int,
        until_s: float,
        fewest_rounds: int = 1,
        most_rounds: int | None = None,
        turns: int = OVERLAPPING_TURNS,
    ) -> None:
        """``until_s``: no round after the first ``fewest_rounds`` begins a block that would end later, on the clock of
        ``block``. ``turns``: of a block in which requests overlap.
        """
        self._cases = tuple(cases)
        self._random = random.Random(seed)
        self._until_s = until_s
        self._fewest_rounds = fewest_rounds
        self._most_rounds = most_rounds
        self._turns = turns
        self._blocks: list[Block] = []
        self._ahead: list[Block] = []
        self._rounds = 0
        self._ended = False
        self._seconds: dict[Case, list[float]] = {case: [] for case in self._cases}
        self._quiet: dict[Case, list[float]] = {case: [] for case in self._cases}

    def took(self, case: Case, seconds: float, *, disturbed: bool = False) -> None:
        """A request of a block took these replica seconds."""
        self._seconds[case].append(seconds)
        if not disturbed:
            self._quiet[case].append(seconds)

    def expects(self, case: Case, seconds: float) -> None:
        """A request of the case took so long before this plan."""
        self._seconds[case].append(seconds)

    @property
    def next_case(self) -> Case:
        """The one that another block is needed of most."""
        return min(self._cases, key=self._need)

    def block(self, number: int, now_s: float) -> Block | None:
        """The block of this number, the same for all who ask; None when the plan has ended before it."""
        while len(self._blocks) <= number and not self._ended:
            if not self._ahead:
                self._ahead = self._round(now_s)
            if self._ahead:
                self._blocks.append(self._ahead.pop())
            else:
                self._ended = True
        return self._blocks[number] if number < len(self._blocks) else None

    def _round(self, now_s: float) -> list[Block]:
        """The first rounds hold every case; later ones those that the time left has room for, by need."""
        if self._most_rounds is not None and self._rounds >= self._most_rounds:
            return []
        if self._rounds >= FEWEST_ROUNDS and self._precise():
            return []
        left_s = self._until_s - now_s
        blocks = []
        for case in sorted(self._cases, key=self._need):
            seen = self._seconds[case]
            expected_s = fmean(seen) if seen else math.inf
            block = sized(case, expected_s, self._turns)
            cost_s = block.completions * expected_s
            if self._rounds < self._fewest_rounds or cost_s <= left_s:
                left_s -= cost_s
                blocks.append(block)
        self._rounds += 1
        self._random.shuffle(blocks)
        return blocks

    def _need(self, case: Case) -> tuple[int, bool, int]:
        """Sorts by how little was measured undisturbed; then the reference first, for the chunk hangs on it; then the
        longest."""
        return len(self._quiet[case]), case.shape != REFERENCE, -case.shape.tokens

    def _precise(self) -> bool:
        """Every case's mean is known to ``PRECISE``."""
        for seen in self._quiet.values():
            if len(seen) < 2:
                return False
            known = interval(seen)
            if known.high - known.mean > PRECISE * known.mean:
                return False
        return True
