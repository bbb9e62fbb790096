"""What readers of datasets give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_LENGTHS = 1_000_000
"""Rows of lengths that are kept: the first ones. Every process of the client holds them all."""

MOST_TEXTS = 20_000
"""Texts that are kept, for the same reason."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Requests as lengths; traces say when they came as well."""

    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    time_s: NDArray[np.float64] | None = None
    """Sorted."""
    blocks: Sequence[Sequence[int]] | None = None
    """Of each request, the identities of the blocks of 512 tokens that its prompt consists of."""
    findings: tuple[str, ...] = ()


class Text(NamedTuple):
    """A request as the fields of a body."""

    fields: dict[str, Any]
    reply: str | None = None
    """The answer that it got: its length is asked for."""


def in_time(shapes: Shapes, times: NDArray[np.float64]) -> Shapes:
    """A trace, in the order of its times (which a few leave by some rows), from 0 on."""
    order = np.argsort(times, kind="stable")
    findings = shapes.findings
    if late := int(np.count_nonzero(np.diff(times) < 0)):
        findings += (f"{late:,} rows are earlier than the row before; all are put in the order of their times",)
    times = times[order]
    blocks = shapes.blocks
    return Shapes(
        inputs=shapes.inputs[order],
        outputs=shapes.outputs[order],
        time_s=times - times[0],
        blocks=None if blocks is None else [blocks[row] for row in order],
        findings=findings,
    )


def kept(path: str, most: int) -> str:
    return f"only the first {most:,} requests of {path} are used"


def left_out(count: int, of: int, why: str) -> tuple[str, ...]:
    """The finding that so many rows could not be used, if there are any."""
    return (f"{count:,} of {of:,} rows are left out: {why}",) if count else ()
