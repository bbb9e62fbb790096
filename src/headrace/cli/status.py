"""``headrace status``: what runs, and what is wrong."""

from __future__ import annotations

import json
import os
from typing import Any

from headrace.cli.connection import ServerGone, connect, local_url
from headrace.cli.connection import data_dir as local_data_dir
from headrace.cli.endpoint_view import print_endpoints
from headrace.cli.errors import CommandError
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption
from headrace.cli.output import at, console, print_json, print_table
from headrace.cli.scaling_view import print_scaling
from headrace.paths import DataDir


def status(
    *, url: UrlOption = None, api_key: KeyOption = None, data_dir: DataDirOption = None, json_output: JsonOption = False
) -> None:
    """What runs and what is wrong. Exit status 1 where no server answers."""
    directory = local_data_dir(data_dir)
    asked = None
    try:
        server = connect(url, api_key, data_dir)
        asked = server.url
        told = server.get("/api/headrace/v1/status")
    except ServerGone as gone:
        # What the directory tells is of its own server alone, not of another that was asked for.
        reason = f"{gone}{_traces(directory)}" if asked == local_url(directory) else str(gone)
        if json_output:
            print_json({"running": False, "problems": [reason]})
        raise CommandError(reason) from None
    if json_output:
        print_json({"running": True, **told})
        return
    _print(server.url, told)


def _traces(directory: DataDir) -> str:
    """What the data directory tells of a server that does not answer."""
    try:
        note = json.loads(directory.server_note.read_text())
        pid = int(note["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"; the last one there (process {pid}) has ended without a word: see {directory.logs}"
    except PermissionError:
        pass
    return f"; process {pid} is alive but does not answer: see {directory.logs}"


def _print(url: str, told: dict[str, Any]) -> None:
    out = console()
    problems = told["problems"]
    out.print(f"{url}: {'[green]all is well[/green]' if not problems else f'[red]{len(problems)} to look at[/red]'}")
    for problem in problems:
        out.print(f"  [red]![/red] {problem}")
    print_table(
        ["process", "state", ">pid", "since", ">restarts"],
        [[one["name"], one["state"], one["pid"], at(one["started_ms"]), one["restarts"]] for one in told["processes"]],
    )
    print_endpoints(told["endpoints"])
    print_scaling(told["endpoints"])
