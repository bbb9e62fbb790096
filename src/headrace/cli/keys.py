"""``headrace keys``: who may call, and who may administer."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.caller_option import CallerOptions, caller_cells
from headrace.cli.connection import path_part
from headrace.cli.option_group import spread
from headrace.cli.options import JsonOption
from headrace.cli.output import at, console, print_json, print_table
from headrace.cli.server_option import ServerOptions

app = typer.Typer(help="Create, list and revoke keys.", no_args_is_help=True, rich_markup_mode=None)

API = "/api/headrace/v1/keys"


@app.command()
@spread
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="For people.")] = "",
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="User whose it is.")] = None,
    service_principal: Annotated[
        str | None,
        typer.Option("--service-principal", metavar="ID", help="Service principal whose it is, by client id or name."),
    ] = None,
    caller: CallerOptions,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Create a key. It is shown once; the server keeps only its digest."""
    body = {"name": name, **caller.told()}
    if user is not None:
        body["user"] = user
    if service_principal is not None:
        body["service_principal"] = service_principal
    key = server.connect().post(API, body)
    if json_output:
        print_json(key)
        return
    console().print(key["key"], markup=False)
    console(stderr=True).print(f"{key['role']} key {key['id']}: copy it now, it is not shown again", markup=False)


@app.command("list")
@spread
def list_keys(*, server: ServerOptions, json_output: JsonOption = False) -> None:
    """All keys, without their secrets."""
    keys = server.connect().get(API)["keys"]
    if json_output:
        print_json({"keys": keys})
        return
    print_table(
        ["key", "role", "belongs to", "tiers", ">weight", "name", "created", "revoked"],
        [
            [
                key["id"],
                key["role"],
                key["principal"],
                *caller_cells(key),
                key["name"],
                at(key["created_ms"]),
                at(key["revoked_ms"]),
            ]
            for key in keys
        ],
    )


@app.command()
@spread
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `headrace keys list` shows it.")],
    *,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Revoke a key. Done when every connected gateway refuses it."""
    answer = server.connect().delete(f"{API}/{path_part(key_id)}")
    if json_output:
        print_json(answer)
    else:
        console().print(f"{key_id} is revoked", markup=False)
