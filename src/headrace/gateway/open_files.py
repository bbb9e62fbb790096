"""How many connections the operating system lets this process have."""

from __future__ import annotations

import logging
import resource

OTHERS = 512
"""Descriptors for all that is not a client: replicas, journal, controller, logs."""

log = logging.getLogger(__name__)


def room_for(connections: int) -> int:
    """As many of these connections as there can be, once this process has asked for all the descriptors it may have.

    Fewer than were wanted is said in the log: beyond its descriptors a process cannot even accept a connection in order
    to refuse it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = max(hard - OTHERS, hard // 2)
    if room < connections:
        fields = {"wanted": connections, "connections": room, "open_files": hard}
        log.warning("fewer connections than configured; raise the limit on open files", extra={"fields": fields})
    return min(room, connections)
