"""Work weights from measured replica seconds.

The seconds that a request takes of a replica at the operating point are linear in five features of its shape (design,
section 2): new tokens, output tokens, attention in prefill, attention in decode, cached tokens. The weights are the
non-negative least-squares solution for the relative errors, so a short shape counts as much as a long one.

They are weighed where requests are: in a range of shapes around the reference's. With several requests in flight, a
replica that is given prompts with hardly an answer has nothing to decode beside them, and its time per prompt is not
what the same prompt takes in a mix; no five smooth terms say both, so such shapes are not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS, REFERENCE_WORK, Weights
from headrace.profiles.nonnegative import non_negative, told_apart

IN, OUT, PREFILL_ATTENTION, DECODE_ATTENTION, CACHED = range(5)


@dataclass(frozen=True, slots=True)
class MeasuredShape:
    """Replica seconds of one request of a shape."""

    input_tokens: int
    """New and cached."""
    output_tokens: int
    seconds: float
    cached_tokens: int = 0

    @property
    def features(self) -> tuple[float, float, float, float, float]:
        """What each weight of ``Weights`` is multiplied by."""
        new, out = self.input_tokens - self.cached_tokens, self.output_tokens
        return (
            new,
            out,
            new * (self.cached_tokens + new / 2),
            out * (self.input_tokens + out / 2),
            self.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights, and how well they say what was measured."""

    weights: Weights
    """Scaled: the reference request weighs 2304."""
    seconds_per_token: float
    """Replica seconds of one reference token."""
    error: float
    """Largest relative error over the shapes."""
    predicted_s: tuple[float, ...]
    """By shape, in the order given."""

    def seconds(self, new: float, cached: float, out: float) -> float:
        """Replica seconds of a request."""
        return self.weights.work(new, cached, out) * self.seconds_per_token


def fit_weights(shapes: Sequence[MeasuredShape]) -> Fit:
    """The weights that predict ``shapes`` best.

    A feature that the shapes cannot tell from the others stays at zero. The first of these sets that they can tell
    apart is used: all features; all but prefill attention (at the reference shape decode attention is the larger
    effect); input and output alone; and, from one shape or several in the same proportion, one weight for every token.
    Without a cached shape the weight of a cached token is zero: it is not computed, and that attention reads it is in
    the other terms.

    Raises ValueError without shapes, or where a shape is empty or took no time.
    """
    if not shapes:
        raise ValueError("no shape was measured")
    for shape in shapes:
        new = shape.input_tokens - shape.cached_tokens
        if not (shape.seconds > 0 and np.isfinite(shape.seconds)) or new < 0 or new + shape.output_tokens <= 0:
            raise ValueError(f"a measured shape needs tokens and a positive time: {shape}")
    features = np.array([shape.features for shape in shapes], dtype=float)
    seconds = np.array([shape.seconds for shape in shapes], dtype=float)
    relative = features / seconds[:, None]  # a perfect fit is 1 for each shape
    solution = _solve(relative, cached=any(shape.cached_tokens for shape in shapes))
    predicted = features @ solution
    raw = Weights(*(float(value) for value in solution))
    reference_s = raw.work(REFERENCE_INPUT_TOKENS, 0, REFERENCE_OUTPUT_TOKENS)
    if reference_s <= 0:
        raise ValueError("the shapes give the reference request no time: measure shapes with new input and output")
    return Fit(
        weights=raw.scaled(),
        seconds_per_token=reference_s / REFERENCE_WORK,
        error=float(np.max(np.abs(predicted / seconds - 1))),
        predicted_s=tuple(float(value) for value in predicted),
    )


def _solve(relative: NDArray[np.float64], *, cached: bool) -> NDArray[np.float64]:
    """Seconds per unit of each feature."""
    extra = (CACHED,) if cached else ()
    for features in (
        (IN, OUT, PREFILL_ATTENTION, DECODE_ATTENTION, *extra),
        (IN, OUT, DECODE_ATTENTION, *extra),
        (IN, OUT, *extra),
        (IN, OUT),
    ):
        if told_apart(relative[:, features]):
            return non_negative(relative, features)
    tokens = relative[:, IN] + relative[:, OUT] + relative[:, CACHED]
    each = float(tokens.sum() / (tokens @ tokens))
    return np.array([each, each, 0.0, 0.0, each if cached else 0.0])
