"""``--wait``: until an endpoint serves its newest config, telling meanwhile what is in the way."""

from __future__ import annotations

import sys
import time
from typing import Any

from headrace.cli.connection import Connection, path_part
from headrace.cli.errors import CommandError

POLL_S = 0.5
PATIENCE_S = 120.0
"""A replica that loads well is ready long before; the server itself goes on trying."""

ENDPOINTS = "/api/headrace/v1/endpoints"


def wait_until_ready(server: Connection, name: str, *, patience_s: float = PATIENCE_S, poll_s: float = POLL_S) -> None:
    """Each new problem is a line on standard error. Raises CommandError where the update failed, or takes too long."""
    until, told = time.monotonic() + patience_s, set[str]()
    while True:
        endpoint = server.get(f"{ENDPOINTS}/{path_part(name)}")
        update, problems = endpoint["config_update"], _problems(endpoint)
        if update in ("UPDATE_FAILED", "UPDATE_CANCELED"):
            why = endpoint["update_message"] or "; ".join(problems) or f"see `headrace events --endpoint {name}`"
            raise CommandError(f"{name!r} could not be brought to its new config: {why}")
        if update == "NOT_UPDATING":
            return
        for problem in problems:
            if problem not in told:
                print(f"{name}: {problem}", file=sys.stderr, flush=True)
                told.add(problem)
        if time.monotonic() >= until:
            why = "; ".join(problems) or f"{endpoint['chunks_loading']} of its chunks are loading"
            raise CommandError(
                f"{name!r} was not ready after {patience_s:g} s: {why}. The server goes on trying: "
                f"`headrace endpoints get {name}`"
            )
        time.sleep(poll_s)


def _problems(endpoint: dict[str, Any]) -> list[str]:
    problems = list(endpoint["problems"])
    message = endpoint["update_message"]
    return problems + ([message] if message and not any(message in problem for problem in problems) else [])
