"""``--wait``: until an endpoint serves its newest config, telling meanwhile what is in the way."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from headrace.cli.connection import Connection, path_part
from headrace.cli.errors import CommandError
from headrace.cli.times import span, time_parser

POLL_S = 0.5
LEAST_PATIENCE_S = 120.0
"""A replica of a small model that loads well is ready long before."""
STARTS = 3
"""So many starts are waited for beyond that: the first one reads the weights from a cold disk, and where there is no
room beside what runs, chunks are replaced one after another."""

ENDPOINTS = "/api/headrace/v1/endpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Return when it can serve. Fails after two minutes and three times what a start of its model takes.",
        ),
    ] = False
    wait_timeout: Annotated[
        float | None,
        typer.Option(
            "--wait-timeout",
            metavar="TIME",
            parser=time_parser("--wait-timeout"),
            help="The same, but wait so long at most, such as 90s or 20m.",
        ),
    ] = None

    def until_ready(self, server: Connection, name: str) -> None:
        """At once where no waiting was asked for. Raises CommandError."""
        if self.wait or self.wait_timeout is not None:
            wait_until_ready(server, name, patience_s=self.wait_timeout)


def wait_until_ready(server: Connection, name: str, *, patience_s: float | None = None, poll_s: float = POLL_S) -> None:
    """Each new problem is a line on standard error. ``patience_s`` None: by what a start is known to take. Raises
    CommandError where the update failed, or takes too long."""
    began, told = time.monotonic(), set[str]()
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
        longest_s = patience_of(endpoint) if patience_s is None else patience_s
        if time.monotonic() - began >= longest_s:
            why = "; ".join(problems) or f"{endpoint['chunks_loading']} of its chunks are loading"
            raise CommandError(
                f"{name!r} was not ready after {span(longest_s)}: {why}. The server goes on starting it: "
                f"`headrace endpoints get {name}` shows how far it is, and --wait-timeout waits longer"
            )
        time.sleep(poll_s)


def patience_of(endpoint: dict[str, Any]) -> float:
    """Seconds, by what a start of its models takes."""
    start_s: float | None = endpoint["start_s"]
    return LEAST_PATIENCE_S + STARTS * (start_s or 0.0)


def _problems(endpoint: dict[str, Any]) -> list[str]:
    problems = list(endpoint["problems"])
    message = endpoint["update_message"]
    return problems + ([message] if message and not any(message in problem for problem in problems) else [])
