"""``headrace service-principals``: callers that are programs, with OAuth tokens in place of keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.cli.caller_option import CallerOptions, caller_cells
from headrace.cli.connection import path_part
from headrace.cli.option_group import spread
from headrace.cli.options import JsonOption
from headrace.cli.output import at, console, print_json, print_table
from headrace.cli.server_option import ServerOptions

app = typer.Typer(
    help="Create, list and delete service principals, and renew their secrets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

API = "/api/headrace/v1/service-principals"

ClientIdArgument = Annotated[
    str, typer.Argument(metavar="CLIENT_ID", help="As `headrace service-principals list` shows it.")
]


@app.command()
@spread
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people; unique, and without spaces.")],
    *,
    caller: CallerOptions,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Create a service principal. Its client secret is shown once; the server keeps only its digest."""
    _show_secret(server.connect().post(API, {"name": name, **caller.told()}), json_output=json_output)


@app.command("list")
@spread
def list_service_principals(*, server: ServerOptions, json_output: JsonOption = False) -> None:
    """All service principals, without their secrets."""
    found = server.connect().get(API)["service_principals"]
    if json_output:
        print_json({"service_principals": found})
        return
    print_table(
        ["name", "client id", "role", "tiers", ">weight", "created"],
        [[one["name"], one["client_id"], one["role"], *caller_cells(one), at(one["created_ms"])] for one in found],
    )


@app.command()
@spread
def new_secret(
    client_id: ClientIdArgument,
    *,
    end_tokens: Annotated[
        bool, typer.Option("--end-tokens", help="End its access tokens too, as when the secret was disclosed.")
    ] = False,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Give a service principal another client secret. The one before is refused at once; permissions and keys stay."""
    path = f"{API}/{path_part(client_id)}/secret"
    _show_secret(server.connect().post(path, {"end_tokens": end_tokens}), json_output=json_output)


@app.command()
@spread
def delete(client_id: ClientIdArgument, *, server: ServerOptions, json_output: JsonOption = False) -> None:
    """Delete a service principal with its tokens, keys and permissions. Done when every gateway refuses it."""
    answer = server.connect().delete(f"{API}/{path_part(client_id)}")
    if json_output:
        print_json(answer)
    else:
        console().print(f"{answer['name']} is deleted", markup=False)


def _show_secret(made: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        print_json(made)
        return
    out = console()
    out.print(f"client id      {made['client_id']}", markup=False)
    out.print(f"client secret  {made['client_secret']}", markup=False)
    console(stderr=True).print("copy the secret now, it is not shown again", markup=False)
