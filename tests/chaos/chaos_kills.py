"""Which process is killed next, and at which moment: at random, or when a request is in the phase that is wanted."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from chaos_books import Journals, Ledger
from chaos_clients import Clients
from chaos_phases import Found, Phase, Target, look
from chaos_process import Child, Children, Victim

AIM_S = 10.0
"""How long to wait for a moment that is wanted; then the kill is done anyway, and counts for what it hits."""
HOLD_S = 0.6
"""How long a gateway is held still for engines to end answers that it does not read."""
LOOK_EVERY_S = 0.02
LONGEST_PAUSE_S = 1.5
"""Between kills; several may fall into one recovery."""


@dataclass(frozen=True)
class Kill:
    target: Target
    aimed: Phase | None
    """None: at whatever moment it was."""
    at: float
    """``time.monotonic()`` from which the process did nothing any more."""
    dead: float
    """When it was killed."""
    child: Child
    found: dict[Phase, int]
    """Requests that it could hit, by phase."""
    in_transaction: bool
    """It was writing to the ledger."""

    def hits(self, phase: Phase) -> bool:
        return self.found.get(phase, 0) > 0


PLAN: dict[Target, tuple[Phase | None, ...]] = {
    Target.GATEWAY: (
        Phase.BEFORE_SETTLE,
        Phase.BEFORE_RESERVE,
        Phase.IN_PREFILL,
        Phase.IN_STREAM,
        None,
        None,
        None,
        None,
    ),
    Target.REPLICA: (Phase.IN_PREFILL, Phase.IN_STREAM, None, None, None, None),
    Target.CONTROLLER: (Phase.IN_INGEST, Phase.IN_INGEST, Phase.IN_INGEST, None, None, None),
}
"""Of twenty kills; half of them are aimed."""


def plan(kills: int, draw: random.Random) -> list[tuple[Target, Phase | None]]:
    """Targets and aims in random order, twenty after twenty."""
    order: list[tuple[Target, Phase | None]] = []
    while len(order) < kills:
        deck = [(target, aim) for target, aims in PLAN.items() for aim in aims]
        draw.shuffle(deck)
        order += deck
    return order[:kills]


class Killer:
    """Kills one process after another; each must have come back before it is its turn again."""

    def __init__(
        self, children: Children, clients: Clients, journals: Journals, ledger: Ledger, draw: random.Random
    ) -> None:
        self._children = children
        self._clients = clients
        self._journals = journals
        self._ledger = ledger
        self._draw = draw

    def kill(self, target: Target, aim: Phase | None) -> Kill:
        time.sleep(self._draw.uniform(0, LONGEST_PAUSE_S))
        deadline = time.monotonic() + AIM_S
        child = self._choose(target)
        while True:
            try:
                with _victim(child) as victim:
                    if victim is not None and (killed := self._try(target, aim, child, victim, deadline)):
                        return killed
                if victim is not None:
                    time.sleep(self._draw.uniform(0.005, 0.05))
                    continue
            except ProcessLookupError:
                pass
            child = self._choose(target)  # it died on its own account: a replica that was replaced, say

    def _try(self, target: Target, aim: Phase | None, child: Child, victim: Victim, deadline: float) -> Kill | None:
        """None where no request was in the phase that is wanted. Raises ProcessLookupError."""
        if aim is Phase.IN_INGEST:
            self._await_transaction(victim, deadline)
        victim.stop()
        at = time.monotonic()
        found = self._look(target, child, victim)
        if aim is Phase.BEFORE_SETTLE:
            self._hold(target, child, victim, found)
        writing = target is Target.CONTROLLER and victim.writes_to(self._ledger.shared_memory_inode)
        wanted = aim is None or (found[aim] and (writing or aim is not Phase.IN_INGEST))
        if not wanted and time.monotonic() <= deadline:
            victim.go_on()
            return None
        victim.kill()
        counts = {phase: len(requests) for phase, requests in found.items()}
        return Kill(target, aim, at, time.monotonic(), child, counts, writing)

    def _choose(self, target: Target) -> Child:
        deadline = time.monotonic() + 60
        while not (running := self._children.running(target)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {target} runs")
            time.sleep(0.05)
        return self._draw.choice(running)

    def _look(self, target: Target, child: Child, victim: Victim) -> Found:
        self._clients.settle_down()
        return look(
            self._clients.open(),
            self._journals,
            self._ledger,
            unread=victim.unread() if target is Target.GATEWAY else [],
            replica=child.token if target is Target.REPLICA else None,
        )

    def _hold(self, target: Target, child: Child, victim: Victim, found: Found) -> None:
        """Until an engine has ended an answer. Of the other phases the first look counts."""
        until = time.monotonic() + HOLD_S
        while not found[Phase.BEFORE_SETTLE] and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
            found[Phase.BEFORE_SETTLE] = self._look(target, child, victim)[Phase.BEFORE_SETTLE]

    def _await_transaction(self, victim: Victim, deadline: float) -> None:
        inode = self._ledger.shared_memory_inode
        while not victim.writes_to(inode) and time.monotonic() < deadline:
            time.sleep(0.0005)


@contextmanager
def _victim(child: Child) -> Iterator[Victim | None]:
    try:
        victim = Victim(child.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield victim
    except BaseException:
        with suppress(ProcessLookupError):
            victim.go_on()
        raise
    finally:
        victim.close()
