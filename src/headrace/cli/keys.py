"""``headrace keys``: who may call, and who may administer."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.connection import connect, path_part
from headrace.cli.errors import UsageError
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption
from headrace.cli.output import at, console, print_json, print_table

app = typer.Typer(help="Create, list and revoke keys.", no_args_is_help=True, rich_markup_mode=None)

API = "/api/headrace/v1/keys"
TIERS = ("priority", "default", "flex")

TiersOption = Annotated[
    str | None, typer.Option("--tiers", help="Service tiers it may use, such as priority,default,flex.")
]
WeightOption = Annotated[
    float | None,
    typer.Option("--weight", help="Its share of a tier beside other keys that wait there: 0.1 to 100. Default 1."),
]


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="For people.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May also change endpoints and keys.")] = False,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="User whose it is.")] = None,
    service_principal: Annotated[
        str | None,
        typer.Option("--service-principal", metavar="ID", help="Service principal whose it is, by client id or name."),
    ] = None,
    tiers: TiersOption = None,
    weight: WeightOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Create a key. It is shown once; the server keeps only its digest."""
    body: dict[str, object] = {"role": "admin" if admin else "query", "name": name}
    if tiers is not None:
        body["tiers"] = chosen_tiers(tiers)
    if weight is not None:
        body["weight"] = weight
    if user is not None:
        body["user"] = user
    if service_principal is not None:
        body["service_principal"] = service_principal
    key = connect(url, api_key, data_dir).post(API, body)
    if json_output:
        print_json(key)
        return
    out = console()
    out.print(key["key"], markup=False)
    console(stderr=True).print(f"{key['role']} key {key['id']}: copy it now, it is not shown again", markup=False)


@app.command("list")
def list_keys(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """All keys, without their secrets."""
    keys = connect(url, api_key, data_dir).get(API)["keys"]
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
                ", ".join(key["tiers"]),
                f"{key['weight']:g}",
                key["name"],
                at(key["created_ms"]),
                at(key["revoked_ms"]),
            ]
            for key in keys
        ],
    )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `headrace keys list` shows it.")],
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Revoke a key. Done when every connected gateway refuses it."""
    answer = connect(url, api_key, data_dir).delete(f"{API}/{path_part(key_id)}")
    if json_output:
        print_json(answer)
    else:
        console().print(f"{key_id} is revoked", markup=False)


def chosen_tiers(text: str) -> list[str]:
    """From ``--tiers``. Raises UsageError."""
    chosen = [tier.strip() for tier in text.split(",")]
    if not set(chosen) <= set(TIERS):
        raise UsageError(f"--tiers is {text!r}; expected some of {', '.join(TIERS)}, with commas between")
    return chosen
