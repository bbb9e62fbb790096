"""The batching core on the real clock.

The schedule is absolute: an iteration ends at the end of the one before plus its own duration, even where a timer fired
late. Timers are good to a millisecond only, and errors that add up would make the engine slower than its model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.engines.simulated.batching import BatchingCore, BatchRequest, Iteration, Token

OnToken = Callable[[Token], None]


class LiveBatch:
    """Runs a core on the running event loop; idle, it costs nothing."""

    def __init__(self, core: BatchingCore) -> None:
        self._core = core
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[str, OnToken] = {}
        self._end = 0.0  # of the iteration in progress, loop time
        self._timer: asyncio.Handle | None = None

    def submit(self, request: BatchRequest, on_token: OnToken) -> None:
        """``on_token`` is called at the end of each iteration that gives this request a token."""
        self._core.admit(request)
        self._listeners[request.id] = on_token
        if self._timer is None:
            self._end = self._loop.time()
            self._begin()

    def cancel(self, id: str) -> None:
        """Its slot is free from the next iteration on; no token of it is delivered any more."""
        self._listeners.pop(id, None)
        self._core.cancel(id)

    def _begin(self) -> None:
        iteration = self._core.next_iteration()
        if iteration is None:
            self._timer = None
            return
        self._end += iteration.duration_s
        self._timer = self._loop.call_at(self._end, self._finish, iteration)

    def _finish(self, iteration: Iteration) -> None:
        for token in iteration.tokens:
            on_token = self._listeners.get(token.request)
            if on_token is None:
                continue  # cancelled during the iteration
            if token.last:
                del self._listeners[token.request]
            on_token(token)
        self._begin()
