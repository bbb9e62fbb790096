"""In which phase a request is, by what can be seen of it from outside: its client, the journal, the ledger, and what
lies unread in the gateway's sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import StrEnum

from chaos_books import Journals, Ledger
from chaos_clients import END, Attempt


class Phase(StrEnum):
    BEFORE_RESERVE = "before reserve"
    """Sent, and not in the journal: on its way, being read, or waiting."""
    IN_PREFILL = "in prefill"
    """Reserved; no token yet. Streams only: of other answers nobody outside can tell."""
    IN_STREAM = "in stream"
    """The client has a part of its tokens."""
    BEFORE_SETTLE = "before settle"
    """The engine has sent the last byte of the answer, the gateway has not read it, nothing is settled."""
    IN_INGEST = "in ingest"
    """A record of it is in the journal, and the ledger does not have it."""


class Target(StrEnum):
    GATEWAY = "gateway"
    REPLICA = "replica"
    CONTROLLER = "controller"


APPLIES = {
    Target.GATEWAY: frozenset(Phase),
    Target.REPLICA: frozenset({Phase.IN_PREFILL, Phase.IN_STREAM}),
    Target.CONTROLLER: frozenset({Phase.BEFORE_RESERVE, Phase.IN_PREFILL, Phase.IN_STREAM, Phase.IN_INGEST}),
}
"""What a kill of each can hit: of a replica only the requests that it has; of a gateway's unread bytes only its own."""

ENGINE_ID = re.compile(rb'"id":"(sim-[^"]+)"')
Found = dict[Phase, set[str]]
"""Requests by phase; each by its client's name for it, those that only the gateway's sockets know by the engine's."""


def look(
    open_attempts: Iterable[Attempt], journals: Journals, ledger: Ledger, *, unread: list[bytes], replica: str | None
) -> Found:
    """``unread``: of the gateway that is stopped. ``replica``: only requests that were last sent to it."""
    journals.read()
    found: Found = {phase: set() for phase in Phase}
    finished = set().union(*map(answers_finished, unread))
    for attempt in open_attempts:
        told = journals.by_client_id.get(attempt.client_id)
        if told is None:
            if attempt.sent and replica is None:
                found[Phase.BEFORE_RESERVE].add(attempt.client_id)
        elif not told.settled and replica in (None, told.reserved[-1].replica):
            if attempt.engine_id in finished:
                finished.discard(attempt.engine_id)
                found[Phase.BEFORE_SETTLE].add(attempt.client_id)
            elif attempt.tokens:
                found[Phase.IN_STREAM].add(attempt.client_id)
            elif attempt.stream:
                found[Phase.IN_PREFILL].add(attempt.client_id)
    found[Phase.BEFORE_SETTLE] |= {id for id in finished if id is not None}  # not streamed, or unread as a whole
    if replica is None and (ingested := ledger.ingested()) is not None:
        found[Phase.IN_INGEST] = journals.beyond(ingested)
    return found


def answers_finished(unread: bytes) -> set[str | None]:
    """The engine's names of the answers that end in what a connection from an engine holds unread."""
    if END in unread or _is_whole(unread):
        return {match.decode() for match in ENGINE_ID.findall(unread)}
    return set()


def _is_whole(unread: bytes) -> bool:
    head, border, body = unread.partition(b"\r\n\r\n")
    if not (border and head.startswith(b"HTTP/1.1 200")):
        return False
    try:
        return "usage" in json.loads(body)
    except ValueError:
        return False
