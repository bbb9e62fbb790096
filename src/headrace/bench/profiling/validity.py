"""Whether a measurement is valid: undisturbed, known well enough to be sold, and of weights that predict."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.bench.profiling.course import Course, fewest_quiet
from headrace.bench.profiling.evidence import Blocks
from headrace.profiles.chunk import Interval
from headrace.profiles.profile import ShapeResult

MOST_HALF = 0.15
"""Half of the chunk's 95% interval, relative to its mean. A full measurement has a few percent, a quick one of an idle
machine up to ten."""
MOST_ERROR = 0.20
"""Of the seconds that the weights predict for a shape that they were not fitted to; on an idle machine they are off by
a few percent, and by less than ten with a tenth of noise between blocks."""


def disturbances(course: Course, blocks: Blocks) -> tuple[str, ...]:
    """In words, what others spoiled."""
    lacking = [case for case in blocks.cases if blocks.quiet(case) < fewest_quiet(case)]
    if not lacking:
        return ()
    disturbed = sum(turn.disturbed for turn in course.turns)
    return (
        f"others used the cores during {disturbed} of {len(course.turns)} blocks, and too few undisturbed ones are "
        f"left of {', '.join(map(str, lacking))}",
    )


def inaccuracies(rates: Interval, held_out: Sequence[ShapeResult]) -> tuple[str, ...]:
    """In words, what is not known well enough. ``rates``: tokens/s of a replica."""
    found = []
    half = (rates.high - rates.low) / 2 / rates.mean
    if half > MOST_HALF:
        found.append(
            f"the 95% interval of the chunk is ±{half:.0%} of the mean, and more than ±{MOST_HALF:.0%} is too wide"
        )
    worst = max(held_out, key=error)
    if error(worst) > MOST_ERROR:
        found.append(
            f"the time of {worst.input_tokens}/{worst.output_tokens}, which the weights were not fitted to, is "
            f"predicted {worst.predicted_s / worst.seconds - 1:+.0%} off, and more than {MOST_ERROR:.0%} is too much"
        )
    return tuple(found)


def error(result: ShapeResult) -> float:
    """Of the predicted seconds, relative to the measured ones."""
    return abs(result.predicted_s / result.seconds - 1)
