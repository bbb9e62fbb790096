"""How a load run looks while it runs: one live line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.cli.live_line import Show, live_line

if TYPE_CHECKING:
    from headrace.bench.look import Look
    from headrace.bench.segments import Earlier
    from headrace.bench.workload.spec import LoadSpec


class Live:
    """Says how a run stands."""

    def __init__(self, spec: LoadSpec, earlier: Earlier, show: Show) -> None:
        """``earlier``: what was measured of it before."""
        self._amount = spec.amount
        self._before, self._before_s = earlier.requests, earlier.rest.schedule_s if earlier.rest else 0.0
        self._show = show

    def say(self, words: str) -> None:
        self._show(words, 0.0)

    def show(self, look: Look) -> None:
        parts = [0.0]
        elapsed_s = self._before_s + look.elapsed_s
        if self._amount.requests:
            parts.append((self._before + look.ended) / self._amount.requests)
        if self._amount.duration_s:
            parts.append(elapsed_s / self._amount.duration_s)
        words = [
            f"{elapsed_s:5.0f} s  {look.in_flight} in flight",
            f"{look.ok} answered",
            f"{look.tokens_per_s:,.0f} tokens/s (input + output)",
        ]
        if look.ttft_p50_s is not None:
            words.append(f"TTFT p50 {look.ttft_p50_s:.3f} s")
        if look.attainment is not None:
            words.append(f"{look.attainment:.1%} good")
        if look.rejected:
            words.append(f"{look.rejected} refused (429)")
        if look.failed:
            words.append(f"{look.failed} failed")
        self._show(", ".join(words), max(parts))


@contextmanager
def live_progress(spec: LoadSpec, earlier: Earlier, *, quiet: bool) -> Iterator[Live]:
    with live_line(quiet=quiet) as show:
        yield Live(spec, earlier, show)


def going_on(earlier: Earlier) -> str:
    """What is still to be sent of a run that was interrupted."""
    if earlier.rest is None:
        return f"all {earlier.requests:,} requests had ended when the run was interrupted; nothing more is sent"
    return (
        f"the run goes on from {earlier.rest.schedule_s:.1f} s of its load, with what was not answered then; the "
        f"{earlier.requests:,} requests before that had all ended, and are not sent again"
    )
