"""``headrace usage``: tokens and work, per request or added up."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from headrace.cli.option_group import spread
from headrace.cli.options import EndpointOption, JsonOption
from headrace.cli.output import at, console, number, print_json, print_table
from headrace.cli.server_option import ServerOptions
from headrace.cli.times import unix_ms


class Group(StrEnum):
    """What a line of usage is."""

    request = "request"
    key = "key"
    endpoint = "endpoint"
    entity = "entity"
    hour = "hour"


DEFINITIONS = (
    "input, output: tokens as the engine counts them; cached is the part of input that came from a prompt cache",
    "reference tokens (work): each request weighed by the replica time it takes, with the weights of its endpoint's "
    "config; a request of 2048 input and 256 output tokens weighs 2304. This is what a range is measured in",
    "rejected: answered 429 or 503; they used nothing, and were sent to no served entity",
    "inexact: counted by events or estimated, because the engine did not tell",
)


@spread
def usage(
    *,
    endpoint: EndpointOption = None,
    group: Annotated[Group, typer.Option("--by", help="What a line is.")] = Group.endpoint,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Ended at or after, such as 2h (ago).")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Ended before.")] = None,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Tokens that requests used, raw and in reference tokens, from the ledger."""
    from_ms, to_ms = unix_ms(since, "--from"), unix_ms(until, "--to")
    told = server.connect().get(
        "/api/headrace/v1/usage",
        endpoint=endpoint,
        group=group.value,
        from_ms=from_ms,
        to_ms=to_ms,
    )
    if json_output:
        print_json(told)
        return
    if group is Group.request:
        _print_requests(told["rows"])
    else:
        _print_groups(told["rows"], group)
    for line in DEFINITIONS:
        console().print(f"[dim]{line}[/dim]")


def _print_groups(sums: list[dict[str, Any]], group: Group) -> None:
    print_table(
        [
            group.value,
            ">requests",
            ">input",
            ">cached",
            ">output",
            ">input + output",
            ">reference tokens",
            ">rejected",
            ">inexact",
        ],
        [
            [
                at(int(one["group"])) if group is Group.hour and one["group"] else one["group"],
                one["requests"],
                number(one["input_tokens"]),
                number(one["cached_tokens"]),
                number(one["output_tokens"]),
                number(one["total_tokens"]),
                number(one["work"], 1),
                one["rejected"],
                one["inexact"],
            ]
            for one in sums
        ],
    )


def _print_requests(requests: list[dict[str, Any]]) -> None:
    print_table(
        [
            "ended",
            "request",
            "endpoint",
            "entity",
            "key",
            "outcome",
            ">input",
            ">cached",
            ">output",
            ">reference tokens",
            ">ms",
        ],
        [
            [
                at(one["settled_ms"]),
                one["rid"],
                one["endpoint"],
                one["entity"],
                one["key"],
                one["outcome"],
                number(one["input_tokens"]),
                number(one["cached_tokens"]),
                number(one["output_tokens"]),
                number(one["work"], 1),
                number(one["e2e_ms"]),
            ]
            for one in requests
        ],
    )
