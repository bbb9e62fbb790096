"""``headrace endpoints``: endpoints through Databricks' REST API for serving endpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from headrace.cli.connection import Connection, connect, path_part
from headrace.cli.endpoint_body import API
from headrace.cli.endpoint_config import OWN_API, OneEntity, entities_of, first_config, next_config
from headrace.cli.endpoint_dry_run import QUERY, print_dry_run
from headrace.cli.endpoint_view import print_endpoint, print_endpoints
from headrace.cli.endpoint_wait import wait_until_ready
from headrace.cli.entity_option import FORM
from headrace.cli.errors import UsageError
from headrace.cli.model_option import ModelVersionOption, name_and_version
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption
from headrace.cli.output import console, print_json
from headrace.cli.scaling_option import (
    AutoscalingOption,
    DownWindowOption,
    FastWindowOption,
    HeadroomOption,
    IdleToZeroOption,
    SlowWindowOption,
    WaitTargetOption,
    scaling_options,
)
from headrace.cli.times import time_parser

app = typer.Typer(help="Create, look at, change and delete endpoints.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(help="The endpoint's name.")]
MinChunksOption = Annotated[int | None, typer.Option("--min-chunks", help="Least capacity, in chunks.")]
MaxChunksOption = Annotated[int | None, typer.Option("--max-chunks", help="Most capacity, in chunks.")]
MinOption = Annotated[int | None, typer.Option("--min", help="The same in reference tokens/s, whole chunks.")]
MaxOption = Annotated[int | None, typer.Option("--max", help="The same in reference tokens/s, whole chunks.")]
UnitsOption = Annotated[
    int | None, typer.Option("--units", help="In place of a range: a fixed size in Databricks model units.")
]
EntityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--entity",
        metavar=FORM,
        help="Instead of --model: a served entity; once for each, in the order in which requests spill and fall back.",
    ),
]
OverloadOption = Annotated[
    str | None,
    typer.Option("--overload", help="queue (default), reject or spill: what happens to requests over max."),
]
QueueDeadlineOption = Annotated[
    float | None,
    typer.Option(
        "--queue-deadline",
        metavar="TIME",
        parser=time_parser("--queue-deadline", least=0),
        help="That a request may wait, such as 90s or 2m. Default 30s.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check the command, say what it would do and cost, and change nothing.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it can serve; fails after two minutes.")]


@app.command()
def create(
    name: NameArgument,
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A registered model: NAME, by default its newest version, or NAME/VERSION."),
    ] = None,
    model_version: ModelVersionOption = None,
    min_chunks: MinChunksOption = None,
    max_chunks: MaxChunksOption = None,
    minimum: MinOption = None,
    maximum: MaxOption = None,
    scale_to_zero: Annotated[
        bool, typer.Option("--scale-to-zero", help="Give the last chunk back when idle; needs a minimum of 0.")
    ] = False,
    units: UnitsOption = None,
    entity: EntityOption = None,
    overload: OverloadOption = None,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="A request that one served entity cannot answer tries the next.")
    ] = False,
    queue_deadline: QueueDeadlineOption = None,
    autoscaling: AutoscalingOption = None,
    fast_window: FastWindowOption = None,
    slow_window: SlowWindowOption = None,
    headroom: HeadroomOption = None,
    down_window: DownWindowOption = None,
    wait_target: WaitTargetOption = None,
    idle_to_zero: IdleToZeroOption = None,
    wait: WaitOption = False,
    dry_run: DryRunOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Create an endpoint with a range, in chunks or in reference tokens/s, or of a fixed size in model units. Default:
    one chunk.

    One model: --model. Several: --entity for each, such as

    headrace endpoints create assistant --entity big=llama,max=2,traffic=80 --entity small=smol,traffic=20
    """
    scaling = scaling_options(
        autoscaling,
        fast_window=fast_window,
        slow_window=slow_window,
        headroom=headroom,
        down_window=down_window,
        wait_target=wait_target,
        idle_to_zero=idle_to_zero,
    )
    model, version = (None, model_version) if model is None else name_and_version(model, model_version)
    one = OneEntity(
        model=model,
        version=version,
        min_chunks=min_chunks,
        max_chunks=max_chunks,
        min_tokens_s=minimum,
        max_tokens_s=maximum,
        scale_to_zero=scale_to_zero or None,
        units=units,
    )
    words = entities_of(entity, one)
    server = connect(url, api_key, data_dir)
    path, config = first_config(server, one, words)
    own = {"overload": overload, "fallback": fallback or None, "queue_deadline_s": queue_deadline}
    own |= scaling
    body: dict[str, Any] = {"name": name, "config": config}
    if given := {key: value for key, value in own.items() if value is not None}:
        body["headrace"] = given
    if dry_run:
        _show_dry_run(server.post(path + QUERY, body), json_output=json_output)
        return
    server.post(path, body)
    if wait:
        wait_until_ready(server, name)
    _show(server, name, json_output=json_output)


@app.command()
def get(
    name: NameArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """One endpoint: its served entities with range, chunk, profile and last scaling, replicas, and what is wrong."""
    _show(connect(url, api_key, data_dir), name, json_output=json_output)


@app.command("list")
def list_endpoints(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """All endpoints."""
    endpoints = connect(url, api_key, data_dir).get(OWN_API)["endpoints"]
    if json_output:
        print_json({"endpoints": endpoints})
    else:
        print_endpoints(endpoints)


@app.command()
def update(
    name: NameArgument,
    *,
    min_chunks: MinChunksOption = None,
    max_chunks: MaxChunksOption = None,
    minimum: MinOption = None,
    maximum: MaxOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Serve another model, or with NAME/VERSION another version.")
    ] = None,
    model_version: ModelVersionOption = None,
    scale_to_zero: Annotated[bool | None, typer.Option("--scale-to-zero/--no-scale-to-zero")] = None,
    units: UnitsOption = None,
    entity: EntityOption = None,
    overload: OverloadOption = None,
    fallback: Annotated[bool | None, typer.Option("--fallback/--no-fallback")] = None,
    queue_deadline: QueueDeadlineOption = None,
    autoscaling: AutoscalingOption = None,
    fast_window: FastWindowOption = None,
    slow_window: SlowWindowOption = None,
    headroom: HeadroomOption = None,
    down_window: DownWindowOption = None,
    wait_target: WaitTargetOption = None,
    idle_to_zero: IdleToZeroOption = None,
    wait: WaitOption = False,
    dry_run: DryRunOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Change what an endpoint serves; what is not named stays, in chunks. A new profile applies from here on. One that
    was made with --units is changed with --units.

    With --entity for each served entity that it is to have: others are removed. Where only --overload, --autoscaling
    and what follows them in this list is named, nothing restarts and there is no new config version.
    """
    model, version = (None, model_version) if model is None else name_and_version(model, model_version)
    one = OneEntity(
        model=model,
        version=version,
        min_chunks=min_chunks,
        max_chunks=max_chunks,
        min_tokens_s=minimum,
        max_tokens_s=maximum,
        scale_to_zero=scale_to_zero,
        units=units,
    )
    words = entities_of(entity, one)
    own = {"overload": overload, "fallback": fallback, "queue_deadline_s": queue_deadline}
    options: dict[str, Any] = {key: value for key, value in own.items() if value is not None} | scaling_options(
        autoscaling,
        fast_window=fast_window,
        slow_window=slow_window,
        headroom=headroom,
        down_window=down_window,
        wait_target=wait_target,
        idle_to_zero=idle_to_zero,
    )
    server = connect(url, api_key, data_dir)
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
        path, body = next_config(server, name, one, words)
        _show_dry_run(server.put(path + QUERY, body), json_output=json_output)
        return
    # A minimum of zero and autoscaling that is off never stand together, not even between these two calls.
    first = autoscaling == "on"
    if options and first:
        server.patch(f"{OWN_API}/{path_part(name)}", options)
    of_call: list[str] = []
    if serves:
        path, body = next_config(server, name, one, words)
        of_call = _notes(server.put(path, body))
    if options and not first:
        server.patch(f"{OWN_API}/{path_part(name)}", options)
    if wait:
        wait_until_ready(server, name)
    _show(server, name, json_output=json_output, of_call=of_call)


@app.command()
def delete(
    name: NameArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Delete an endpoint. Requests in flight are finished; its usage and bill stay."""
    connect(url, api_key, data_dir).delete(f"{API}/{path_part(name)}")
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
    print_endpoint(endpoint)
    for note in notes:
        console().print(note, markup=False)
