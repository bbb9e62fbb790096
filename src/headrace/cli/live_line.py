"""How a long command stands, on standard error: one line drawn over and over where somebody looks, and a line now and
then where it goes to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.cli.output import console

LOGGED_EVERY_S = 15.0

Show = Callable[[str, float], None]
"""(words, part that is done, 0 to 1)."""


@contextmanager
def live_line(*, quiet: bool) -> Iterator[Show]:
    """``quiet``: nothing at all."""
    if quiet:
        yield lambda words, part: None
        return
    if not sys.stderr.isatty():
        yield Logged(lambda words: print(words, file=sys.stderr, flush=True)).show
        return
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = BarColumn(bar_width=24), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda words, part: progress.update(task, completed=part, description=words)


class Logged:
    """Lets one line through each ``LOGGED_EVERY_S``."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._next_s = clock() + LOGGED_EVERY_S

    def show(self, words: str, part: float) -> None:
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + LOGGED_EVERY_S
            self._write(f"{min(part, 1.0):4.0%} {words}")
