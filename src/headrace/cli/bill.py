"""``headrace bill``: chunk-time, price, and how to make the bill again by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from headrace.cli.option_group import spread
from headrace.cli.options import EndpointOption, JsonOption
from headrace.cli.output import console, number, print_json, print_table
from headrace.cli.server_option import ServerOptions
from headrace.cli.times import unix_ms

HOW = (
    "billed at each moment: max(minimum, chunks ready, or draining after our own scale-down), in chunks",
    "not billed: loading, replacing a failed replica, the surplus of a roll-out, and what our own failure left missing",
    "amount of a line: chunk-milliseconds × price of a chunk-hour / 3,600,000, rounded once, half up, to a millionth",
    "total: the sum of the lines; `headrace bill --json` has the spans of each line",
)


@spread
def bill(
    *,
    endpoint: EndpointOption = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Such as 2026-11-22 or 2h (ago).")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Default: now.")] = None,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """What the chunks cost, in hourly lines, each with the numbers that it is made from."""
    from_ms, to_ms = unix_ms(since, "--from"), unix_ms(until, "--to")
    told = server.connect().get("/api/headrace/v1/bill", endpoint=endpoint, from_ms=from_ms, to_ms=to_ms)
    if json_output:
        print_json(told)
        return
    for one in told["bills"]:
        _print(one, told["currency"])
    out = console()
    out.print(f"total {told['total']} {told['currency']}", markup=False)
    for line in HOW:
        out.print(f"[dim]{line}[/dim]")


def _print(one: dict[str, Any], currency: str) -> None:
    several = len({line["entity_id"] for line in one["lines"]}) > 1
    print_table(
        [
            "hour (UTC)",
            *(("served entity",) if several else ()),
            ">config version",
            ">chunk-milliseconds",
            ">chunk-hours",
            f">price of a chunk-hour ({currency})",
            f">amount ({currency})",
        ],
        [
            [
                datetime.fromtimestamp(line["hour_start_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
                *((line["entity"],) if several else ()),
                line["config_version"],
                number(line["chunk_ms"]),
                f"{line['chunk_ms'] / 3_600_000:.6f}",
                line["price"],
                line["amount"],
            ]
            for line in one["lines"]
        ],
        title=one["endpoint"],
    )
