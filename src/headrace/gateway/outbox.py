"""Records on their way to the journal, and what happens when the disk does not take them.

From the first record that is refused until the disk takes records again, a request is refused before anything of it is
sent, or, where the operator chose that, served without any record and counted as unmetered. The end of a request that
was reserved must not be lost: it is kept and tried again. What is kept is bounded by what was in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import msgspec

from headrace.gateway.snapshot import JournalTick
from headrace.journal.records import Progress, Rejected, Reserved, Settled
from headrace.journal.writer import JournalError, Writer

RETRY_S = 1.0
MOST_REJECTIONS_KEPT = 10_000
"""A few megabytes. Nothing was used by those that are dropped beyond."""

log = logging.getLogger(__name__)


class Outbox:
    """The journal of this gateway as its requests see it."""

    def __init__(self, writer: Writer, *, serve_unmetered: bool = False) -> None:
        """``serve_unmetered``: requests are served although they cannot be recorded."""
        self._writer = writer
        self._serve_unmetered = serve_unmetered
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._failure: str | None = None
        """Why the disk takes no records."""
        self._kept: deque[Settled | Rejected] = deque()
        self._rejections_kept = self._rejections_dropped = 0
        self._unrecorded: set[str] = set()
        """Requests in flight of which nothing is recorded, also where the disk has recovered meanwhile."""
        self._unmetered_requests = self._unmetered_input = self._unmetered_output = 0

    def reserve(self, record: Reserved) -> None:
        """Raises JournalError: then nothing may be sent."""
        if self._unrecorded and record.rid in self._unrecorded:
            return
        if self._failure is not None:
            self._recover()
        if self._failure is None:
            try:
                self._writer.append(record)
                return
            except JournalError as error:
                self._fail(str(error))
        if not self._serve_unmetered:
            raise JournalError(self._failure)
        if record.seq == 1:  # of a later one the journal knows the request already, and its end will be kept
            self._unrecorded.add(record.rid)
            self._unmetered_requests += 1

    def note(self, record: Progress) -> None:
        """Progress may be lost: the end of the request says the same and more."""
        if self._failure is not None or record.rid in self._unrecorded:
            return
        try:
            self._writer.append(record, sync=False)
        except JournalError as error:
            self._fail(str(error))

    def end(self, record: Settled | Rejected) -> None:
        """Written now, or as soon as the disk takes it."""
        if self._unrecorded and record.rid in self._unrecorded:
            self._end_unrecorded(record)
            return
        if self._failure is None:
            try:
                self._writer.append(record)
                return
            except JournalError as error:
                self._fail(str(error))
        self._keep(record)

    def tick(self) -> JournalTick:
        """For the controller."""
        return JournalTick(
            failure=self._failure,
            kept=len(self._kept),
            serves_unmetered=self._serve_unmetered,
            unmetered_requests=self._unmetered_requests,
            unmetered_input_tokens=self._unmetered_input,
            unmetered_output_tokens=self._unmetered_output,
        )

    def close(self) -> None:
        """A last attempt; what the disk still refuses is said in the log."""
        if self._retry is not None:
            self._retry.cancel()
        try:
            self._flush()
        except JournalError as error:
            for record in self._kept:
                fields = {"reason": str(error), "record": msgspec.to_builtins(record)}
                log.critical("the end of a request is not in the journal, but only here", extra={"fields": fields})
        self._writer.close()

    def _keep(self, record: Settled | Rejected) -> None:
        if isinstance(record, Rejected):
            if self._rejections_kept >= MOST_REJECTIONS_KEPT:
                self._rejections_dropped += 1
                return
            self._rejections_kept += 1
        self._kept.append(record)

    def _end_unrecorded(self, record: Settled | Rejected) -> None:
        self._unrecorded.discard(record.rid)
        if isinstance(record, Settled):
            self._unmetered_input += record.input_tokens
            self._unmetered_output += record.output_tokens

    # A failure and its end.

    def _fail(self, reason: str) -> None:
        self._failure = reason
        meanwhile = "served unmetered" if self._serve_unmetered else "refused"
        log.error(f"the journal fails: new requests are {meanwhile}", extra={"fields": {"reason": reason}})
        self._retry = self._loop.call_later(RETRY_S, self._on_timer)

    def _on_timer(self) -> None:
        self._recover()
        if self._failure is not None:
            self._retry = self._loop.call_later(RETRY_S, self._on_timer)

    def _recover(self) -> None:
        """Write what is kept, and take new requests again where there is room for them too."""
        kept = len(self._kept)
        try:
            self._flush()
            self._writer.probe()
        except JournalError as error:
            self._failure = str(error)
            return
        fields = {
            "kept": kept,
            "rejections_dropped": self._rejections_dropped,
            "unmetered_requests": self._unmetered_requests,
        }
        log.warning("the journal is written again", extra={"fields": fields})
        self._failure = None
        self._rejections_kept = self._rejections_dropped = 0
        if self._retry is not None:
            self._retry.cancel()

    def _flush(self) -> None:
        """Raises JournalError; what was not written stays kept, in its order."""
        while self._kept:
            self._writer.append(self._kept[0])
            self._kept.popleft()
