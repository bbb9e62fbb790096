"""``headrace events``: what happened, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.connection import path_part
from headrace.cli.errors import UsageError
from headrace.cli.option_group import spread
from headrace.cli.options import EndpointOption, JsonOption
from headrace.cli.output import at, console, print_json, print_table
from headrace.cli.server_option import ServerOptions


@spread
def events(
    name: Annotated[str | None, typer.Argument(metavar="[ENDPOINT]", help="Only this endpoint.")] = None,
    *,
    endpoint: EndpointOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="The newest so many.")] = 50,
    after: Annotated[int | None, typer.Option("--after", metavar="ID", help="Those after this event.")] = None,
    before: Annotated[int | None, typer.Option("--before", metavar="ID", help="Those before this event.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind, such as scaled. May be given again."),
    ] = None,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """What the server decided and what happened to it, with reasons. --json adds the inputs of each decision."""
    if name is not None and endpoint is not None:
        raise UsageError("name the endpoint once: `headrace events NAME`")
    of = name or endpoint
    connection = server.connect()
    asked = {"endpoint": of, "kind": kind, "limit": limit, "after": after, "before": before}
    told = connection.get("/api/headrace/v1/events", **asked)
    if of is not None and not told["events"] and kind is None and after is None and before is None:
        connection.get(f"/api/headrace/v1/endpoints/{path_part(of)}")  # which says so where there is none of this name
    if json_output:
        print_json(told)
        return
    print_table(
        [">id", "at", "endpoint", "kind", "what and why"],
        [
            [event["id"], at(event["at_ms"]), event["endpoint"], event["kind"], event["message"]]
            for event in told["events"]
        ],
    )
    if any((event["data"] or {}).get("tail") for event in told["events"]):
        console().print(
            "--json has the last lines of the log of a replica that failed, as tail; the whole of it is in the folder "
            "logs of the server's data directory"
        )
