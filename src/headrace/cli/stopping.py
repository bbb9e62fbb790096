"""Ctrl-C as a wish to stop: what was measured until then is kept."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from headrace.cli.errors import CommandError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
T = TypeVar("T")


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set, while inside; in the event loop of the main thread. The second of them ends
    the program."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def heed_no_more() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def on_signal() -> None:
        stop.set()
        heed_no_more()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        heed_no_more()


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to. Raises CommandError where ``stop`` is set first; the work is cancelled then."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CommandError("interrupted before the first request", status=130)
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
