"""``headrace endpoints``: endpoints through Databricks' REST API for serving endpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from headrace.cli.connection import ApiError, Connection, path_part
from headrace.cli.endpoint_body import API
from headrace.cli.endpoint_config import OWN_API, first_config, next_config
from headrace.cli.endpoint_dry_run import QUERY, print_dry_run
from headrace.cli.endpoint_option import BehaviourOptions, ServedOptions
from headrace.cli.endpoint_view import print_endpoint, print_endpoints
from headrace.cli.endpoint_wait import WaitOptions
from headrace.cli.errors import UsageError
from headrace.cli.option_group import spread
from headrace.cli.options import JsonOption
from headrace.cli.output import console, print_json
from headrace.cli.server_option import ServerOptions

app = typer.Typer(help="Create, look at, change and delete endpoints.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(help="The endpoint's name.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check the command, say what it would do and cost, and change nothing.")
]


@app.command()
@spread
def create(
    name: NameArgument,
    *,
    served: ServedOptions,
    behaviour: BehaviourOptions,
    waiting: WaitOptions,
    dry_run: DryRunOption = False,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Create an endpoint with a range, in chunks or in reference tokens/s, or of a fixed size in model units. Default:
    one chunk.

    One model: --model. Several: --entity for each, such as

    headrace endpoints create assistant --entity big=llama,max=2,traffic=80 --entity small=smol,traffic=20
    """
    own, (one, words) = behaviour.told(), served.said()
    connection = server.connect()
    path, config = first_config(connection, one, words)
    body: dict[str, Any] = {"name": name, "config": config}
    if own:
        body["headrace"] = own
    if dry_run:
        _show_dry_run(connection.post(path + QUERY, body), json_output=json_output)
        return
    connection.post(path, body)
    waiting.until_ready(connection, name)
    _show(connection, name, json_output=json_output)


@app.command()
@spread
def get(name: NameArgument, *, server: ServerOptions, json_output: JsonOption = False) -> None:
    """One endpoint: its served entities with range, chunk, profile and last scaling, replicas, and what is wrong."""
    _show(server.connect(), name, json_output=json_output)


@app.command("list")
@spread
def list_endpoints(*, server: ServerOptions, json_output: JsonOption = False) -> None:
    """All endpoints."""
    endpoints = server.connect().get(OWN_API)["endpoints"]
    if json_output:
        print_json({"endpoints": endpoints})
    else:
        print_endpoints(endpoints)


@app.command()
@spread
def update(
    name: NameArgument,
    *,
    served: ServedOptions,
    behaviour: BehaviourOptions,
    waiting: WaitOptions,
    dry_run: DryRunOption = False,
    server: ServerOptions,
    json_output: JsonOption = False,
) -> None:
    """Change what an endpoint serves; what is not named stays, in chunks. A new profile applies from here on. One that
    was made with --units is changed with --units.

    With --entity for each served entity that it is to have: others are removed. Where only --overload, --autoscaling
    and what follows them in this list is named, nothing restarts and there is no new config version.
    """
    options, (one, words) = behaviour.told(), served.said()
    connection = server.connect()
    serves = bool(words) or one.said
    if not (serves or options):
        print(
            f"headrace: nothing to change was named, and nothing was changed. To sell {name} by a newer profile, name "
            "its range, such as --min-chunks 1 --max-chunks 2",
            file=sys.stderr,
        )
    elif dry_run:
        if options:
            raise UsageError(
                "--dry-run is for what an endpoint serves: leave --overload, --autoscaling and what follows them out. "
                "They hold at once and restart nothing; but --autoscaling off keeps the chunks, and the bill, at the "
                "minimum of the range, and on lets both follow demand up to its maximum"
            )
        path, body = next_config(connection, name, one, words)
        _show_dry_run(connection.put(path + QUERY, body), json_output=json_output)
        return
    # A minimum of zero and autoscaling that is off never stand together, not even between these two calls.
    first = behaviour.autoscaling == "on"
    if options and first:
        connection.patch(f"{OWN_API}/{path_part(name)}", options)
    of_call: list[str] = []
    if serves:
        path, body = next_config(connection, name, one, words)
        of_call = _notes(connection.put(path, body))
    if options and not first:
        connection.patch(f"{OWN_API}/{path_part(name)}", options)
    waiting.until_ready(connection, name)
    _show(connection, name, json_output=json_output, of_call=of_call)


@app.command()
@spread
def delete(name: NameArgument, *, server: ServerOptions, json_output: JsonOption = False) -> None:
    """Delete an endpoint. Requests in flight are finished; its usage and bill stay."""
    server.connect().delete(f"{API}/{path_part(name)}")
    if json_output:
        print_json({"name": name, "deleted": True})
    else:
        console().print(f"{name} is deleted", markup=False)


def _show_dry_run(told: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        print_json(told)
    else:
        print_dry_run(told)


def _notes(reply: dict[str, Any]) -> list[str]:
    """What a call of Databricks' API tells beside its answer."""
    found: list[str] = reply["headrace"]["notes"]
    return found


def _show(server: Connection, name: str, *, json_output: bool, of_call: Sequence[str] = ()) -> None:
    """Both views of it: Databricks', with notes on what is done otherwise than asked, and Headrace's own. ``of_call``:
    the notes of the call that was made, among which those on the endpoint may be."""
    endpoint = server.get(f"{OWN_API}/{path_part(name)}")
    databricks = server.get(f"{API}/{path_part(name)}")
    notes = list(dict.fromkeys([*of_call, *_notes(databricks)]))
    if json_output:
        print_json({**databricks, "headrace": {**endpoint, "notes": notes}})
        return
    print_endpoint(endpoint, _permissions(server, endpoint["id"]))
    for note in notes:
        console().print(note, markup=False)


def _permissions(server: Connection, endpoint_id: str) -> list[str]:
    """Those that were given, such as ``group users: CAN_QUERY``; none where the caller may not see them."""
    try:
        told = server.get(f"/api/2.0/permissions/serving-endpoints/{path_part(endpoint_id)}")
    except ApiError:
        return []
    found = []
    for entry in told["access_control_list"]:
        kind = next(kind for kind in ("user", "service_principal", "group") if entry.get(f"{kind}_name"))
        levels = [one["permission_level"] for one in entry["all_permissions"] if not one["inherited"]]
        if levels:
            found.append(f"{kind.replace('_', ' ')} {entry['display_name']}: {', '.join(levels)}")
    return found
