"""Records on their way to the journal, and what happens when the disk does not take them.

A reservation that cannot be written stops its request before anything is sent. The end of a request that has run must
not be lost: it is kept and tried again. What is kept is bounded by what was in flight when the disk was full.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from headrace.journal.records import Progress, Rejected, Reserved, Settled
from headrace.journal.writer import JournalError, Writer

RETRY_S = 1.0

log = logging.getLogger(__name__)


class Outbox:
    """The journal of this gateway as its requests see it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._kept: deque[Settled | Rejected] = deque()
        self._loop = asyncio.get_running_loop()

    def reserve(self, record: Reserved) -> None:
        """Raises JournalError: then nothing may be sent."""
        self._writer.append(record)

    def note(self, record: Progress) -> None:
        """Progress may be lost: the end of the request says the same and more."""
        try:
            self._writer.append(record)
        except JournalError as error:
            log.warning("no progress in the journal", extra={"fields": {"reason": str(error)}})

    def end(self, record: Settled | Rejected) -> None:
        """Written now, or as soon as the disk takes it."""
        self._kept.append(record)
        if len(self._kept) == 1:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._kept:
                self._writer.append(self._kept[0])
                self._kept.popleft()
        except JournalError as error:
            log.error(
                "the journal cannot be written; new requests are refused",
                extra={"fields": {"reason": str(error), "kept": len(self._kept)}},
            )
            self._loop.call_later(RETRY_S, self._flush)

    def close(self) -> None:
        """A last attempt; what the disk still refuses is said in the log."""
        self._flush()
        self._writer.close()
