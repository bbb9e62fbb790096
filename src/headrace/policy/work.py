"""Work: the weight of a request in reference tokens.

A request is weighed by the replica time that it takes, expressed in tokens of the reference workload (2048 input and
256 output tokens), so that ``work / chunk`` is seconds of one replica.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

REFERENCE_INPUT_TOKENS = 2048
REFERENCE_OUTPUT_TOKENS = 256
REFERENCE_TOKENS = REFERENCE_INPUT_TOKENS + REFERENCE_OUTPUT_TOKENS
REFERENCE_WORK = float(REFERENCE_TOKENS)
"""Reference tokens of one request of the reference workload: there, work and raw tokens agree."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Reference tokens that each part of a request costs, measured per model, engine and hardware."""

    w_in: float
    """Per new (not cached) input token."""
    w_out: float
    """Per output token."""
    w_pp: float
    """Per new input token and token of context before it: attention in prefill."""
    w_dd: float
    """Per output token and token of context before it: attention in decode."""
    w_c: float
    """Per cached input token."""

    def work(self, new: float, cached: float, out: float) -> float:
        """Reference tokens of a request with ``new`` + ``cached`` input and ``out`` output tokens."""
        return (
            self.w_in * new
            + self.w_out * out
            + self.w_pp * new * (cached + new / 2)
            + self.w_dd * out * (new + cached + out / 2)
            + self.w_c * cached
        )

    def scaled(self) -> Weights:
        """The same weights in proportion, scaled so that a reference request weighs exactly its own tokens.

        Raises ValueError when the reference request weighs nothing.
        """
        reference = self.work(REFERENCE_INPUT_TOKENS, 0, REFERENCE_OUTPUT_TOKENS)
        if reference <= 0:
            raise ValueError("the reference request must have positive work")
        factor = REFERENCE_WORK / reference
        return replace(
            self,
            w_in=self.w_in * factor,
            w_out=self.w_out * factor,
            w_pp=self.w_pp * factor,
            w_dd=self.w_dd * factor,
            w_c=self.w_c * factor,
        )


RAW_TOKENS = Weights(w_in=1.0, w_out=1.0, w_pp=0.0, w_dd=0.0, w_c=1.0)
"""Every token weighs one: what a model that was never measured would be charged."""


def largest_work(weights: Weights, context: int) -> float:
    """The most that a request may weigh whose input and output together fill ``context`` tokens, none of it cached.

    Along input + output = context the work is a quadratic in the input: its maximum is at an end or where the
    derivative, (w_out - w_in) + (w_dd - w_pp) * input, is zero.
    """
    inputs = [0.0, float(context)]
    curvature = weights.w_dd - weights.w_pp
    if curvature != 0:
        inputs.append(min(max((weights.w_in - weights.w_out) / curvature, 0.0), float(context)))
    return max(weights.work(new, 0.0, context - new) for new in inputs)
