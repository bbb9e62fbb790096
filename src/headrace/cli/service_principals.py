"""``headrace service-principals``: callers that are programs, with OAuth tokens in place of keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.cli.connection import connect, path_part
from headrace.cli.keys import TiersOption, WeightOption, chosen_tiers
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption
from headrace.cli.output import at, console, print_json, print_table

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
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people; unique, and without spaces.")],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    tiers: TiersOption = None,
    weight: WeightOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Create a service principal. Its client secret is shown once; the server keeps only its digest."""
    body: dict[str, object] = {"name": name, "role": "admin" if admin else "query"}
    if tiers is not None:
        body["tiers"] = chosen_tiers(tiers)
    if weight is not None:
        body["weight"] = weight
    _show_secret(connect(url, api_key, data_dir).post(API, body), json_output=json_output)


@app.command("list")
def list_service_principals(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """All service principals, without their secrets."""
    found = connect(url, api_key, data_dir).get(API)["service_principals"]
    if json_output:
        print_json({"service_principals": found})
        return
    print_table(
        ["name", "client id", "role", "tiers", ">weight", "created"],
        [
            [
                one["name"],
                one["client_id"],
                one["role"],
                ", ".join(one["tiers"]),
                f"{one['weight']:g}",
                at(one["created_ms"]),
            ]
            for one in found
        ],
    )


@app.command()
def new_secret(
    client_id: ClientIdArgument,
    *,
    end_tokens: Annotated[
        bool, typer.Option("--end-tokens", help="End its access tokens too, as when the secret was disclosed.")
    ] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Give a service principal another client secret. The one before is refused at once; permissions and keys stay."""
    path = f"{API}/{path_part(client_id)}/secret"
    _show_secret(connect(url, api_key, data_dir).post(path, {"end_tokens": end_tokens}), json_output=json_output)


@app.command()
def delete(
    client_id: ClientIdArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Delete a service principal with its tokens, keys and permissions. Done when every gateway refuses it."""
    answer = connect(url, api_key, data_dir).delete(f"{API}/{path_part(client_id)}")
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
