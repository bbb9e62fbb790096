"""``headrace events``: what happened, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.errors import UsageError
from headrace.cli.option_group import spread
from headrace.cli.options import EndpointOption, JsonOption
from headrace.cli.output import at, print_json, print_table
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
    asked = {"endpoint": name or endpoint, "kind": kind, "limit": limit, "after": after, "before": before}
    told = server.connect().get("/api/headrace/v1/events", **asked)
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
