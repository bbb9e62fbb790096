"""Which lengths a profile is measured on, and the plan: in what order, how often, until when.

The plan is pure: it is told the time and how long requests took, and says what every replica does next. Shapes take
turns in a seeded random order, so that a slow drift of the machine falls on all of them alike.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS
from headrace.profiles.chunk import interval


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """Lengths of a request, in tokens, without cache."""

    input_tokens: int
    output_tokens: int

    def __str__(self) -> str:
        return f"{self.input_tokens}/{self.output_tokens}"

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


REFERENCE = Shape(REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class Menu:
    """The shapes of one profile: those that the weights are fitted to, and one that they must predict."""

    fitted: tuple[Shape, ...]
    held_out: Shape

    @property
    def all(self) -> tuple[Shape, ...]:
        return (*self.fitted, self.held_out)


FULL_MENU = Menu(
    fitted=(REFERENCE, Shape(2048, 8), Shape(1024, 128), Shape(512, 64), Shape(128, 256), Shape(128, 64)),
    held_out=Shape(768, 160),
)
QUICK_MENU = Menu(
    fitted=(REFERENCE, Shape(1024, 8), Shape(512, 64), Shape(128, 192), Shape(128, 64)),
    held_out=Shape(640, 96),
)
"""Every weight shows in it, and it takes a third of the time of the full one."""

BLOCK_S = 1.0
"""A block of short requests lasts at least about this long, so that the noise of one turn-around does not rule it."""

FEWEST_ROUNDS = 4
"""Rounds before a measurement may end because it is precise: a machine's slow changes must have had time to show."""

PRECISE = 0.005
"""Half of the 95% interval of a shape's seconds, relative to their mean, that is precise enough to stop before time."""

FEWEST_OVERLAPPING_TURNS = 3
"""Turns of a block with several slots. How far the others are when one completes differs from turn to turn, by an
iteration of prefill or so; that error is made at the ends of a window, so it shrinks with its length."""

MOST_TURNS = 64
"""Turns of a shape in one block, however quick it is."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some requests of one shape, ``slots`` in flight. The first ``ramp`` completions are not measured."""

    shape: Shape
    ramp: int
    measured: int

    @property
    def completions(self) -> int:
        return self.ramp + self.measured


class Plan:
    """The blocks that all replicas go through, decided one after another as time allows."""

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        slots: int,
        seed: int,
        until_s: float,
        reference_blocks: int = 1,
        most_rounds: int | None = None,
    ) -> None:
        """``until_s``: no round after the first begins a block that would end later, on the clock of ``block``.

        ``reference_blocks``: of the first round; the chunk's interval needs several samples.
        """
        self._shapes = tuple(shapes)
        self._slots = slots
        self._reference_blocks = reference_blocks
        self._random = random.Random(seed)
        self._until_s = until_s
        self._most_rounds = most_rounds
        self._blocks: list[Block] = []
        self._ahead: list[Block] = []
        self._rounds = 0
        self._ended = False
        self._seconds: dict[Shape, list[float]] = {shape: [] for shape in self._shapes}

    def took(self, shape: Shape, seconds: float) -> None:
        """A request of this shape took these replica seconds."""
        self._seconds[shape].append(seconds)

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
        """The first round holds every shape; later ones those that the time left has room for, by need."""
        if self._most_rounds is not None and self._rounds >= self._most_rounds:
            return []
        if self._rounds >= FEWEST_ROUNDS and self._precise():
            return []
        left_s = self._until_s - now_s
        blocks = []
        for shape in sorted(self._shapes, key=self._need):
            block = self._sized(shape)
            cost_s = block.completions * self._expected_s(shape)
            if self._rounds == 0 or cost_s <= left_s:
                left_s -= cost_s
                blocks.append(block)
        if self._rounds == 0 and REFERENCE in self._shapes:
            blocks += [self._sized(REFERENCE)] * (self._reference_blocks - 1)
        self._rounds += 1
        self._random.shuffle(blocks)
        return blocks

    def _need(self, shape: Shape) -> tuple[bool, int, int]:
        """Sorts the reference first, for the chunk hangs on it; then by how little was measured; then the longest."""
        return shape != REFERENCE, len(self._seconds[shape]), -shape.tokens

    def _precise(self) -> bool:
        """Every shape's mean is known to ``PRECISE``."""
        for seen in self._seconds.values():
            if len(seen) < 2:
                return False
            known = interval(seen)
            if known.high - known.mean > PRECISE * known.mean:
                return False
        return True

    def _expected_s(self, shape: Shape) -> float:
        """Replica seconds of a request; infinite where none was measured yet."""
        seen = self._seconds[shape]
        return sum(seen) / len(seen) if seen else math.inf

    def _sized(self, shape: Shape) -> Block:
        expected_s = self._expected_s(shape)
        turns = min(MOST_TURNS, max(1, math.ceil(BLOCK_S / (expected_s * self._slots))))
        if self._slots == 1:
            return Block(shape=shape, ramp=0, measured=turns)
        # Requests overlap: only between completions in a steady state, over whole turns of all slots, does as much work
        # enter the window as leaves it.
        return Block(shape=shape, ramp=self._slots, measured=max(turns, FEWEST_OVERLAPPING_TURNS) * self._slots)


def steady_seconds(begin_s: float, ends_s: Sequence[float], block: Block) -> list[float]:
    """Samples of the replica seconds of one request.

    With one slot, completions follow one another and each gives a sample; with several, the whole block gives one.
    ``begin_s``: when the block's first requests were sent; ``ends_s``: its completions in order, at least
    ``block.completions`` of them; later ones, which end while the block drains, are not used.
    """
    if not block.ramp:
        return [late - early for early, late in pairwise([begin_s, *ends_s[: block.completions]])]
    # A window from each completion of the first turn: what the others have done at its two ends averages out.
    windows = [ends_s[first + block.measured] - ends_s[first] for first in range(block.ramp)]
    return [fmean(windows) / block.measured]
