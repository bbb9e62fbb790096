"""A timer of the kernel in the event loop. The loop's own are rounded to milliseconds, which is as long as the answers
of a quick server take."""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
from collections.abc import Callable
from time import monotonic

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1


class _Times(ctypes.Structure):
    """``struct itimerspec``: the interval, then when it goes off first."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """Calls ``due`` in the event loop when the time has come; by the clock of ``time.monotonic``."""

    def __init__(self, due: Callable[[], object]) -> None:
        """Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._due = due
        self._when = math.inf
        self._times = _Times()
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer to be had from the kernel")
        self._given = ctypes.byref(self._times)
        self._loop.add_reader(self._fd, self._ring)

    def at(self, when: float) -> None:
        """Once; in place of what was set before. A time that has passed comes at once."""
        self._when = when
        self._times.at_s = seconds = int(when)
        self._times.at_ns = max(1, int((when - seconds) * 1e9))  # 0 and 0 would stop it
        _libc.timerfd_settime(self._fd, _ABSOLUTE, self._given, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ring(self) -> None:
        if self._when > monotonic():
            return  # it was set anew in the same round of the loop
        self._when = math.inf
        self._due()
        if self._when == math.inf and self._fd >= 0:
            os.read(self._fd, 8)  # it rings until then, or until it is set anew, which saves a call of the kernel
