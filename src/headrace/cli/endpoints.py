"""``headrace endpoints``: endpoints through Databricks' REST API for serving endpoints."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.cli.connection import Connection, connect, path_part
from headrace.cli.endpoint_view import print_endpoint, print_endpoints
from headrace.cli.endpoint_wait import wait_until_ready
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption
from headrace.cli.output import console, print_json

app = typer.Typer(help="Create, look at, change and delete endpoints.", no_args_is_help=True, rich_markup_mode=None)

API = "/api/2.0/serving-endpoints"
OWN_API = "/api/headrace/v1/endpoints"

NameArgument = Annotated[str, typer.Argument(help="The endpoint's name.")]
MinChunksOption = Annotated[int | None, typer.Option("--min-chunks", help="Least capacity, in chunks.")]
MaxChunksOption = Annotated[int | None, typer.Option("--max-chunks", help="Most capacity, in chunks.")]
MinOption = Annotated[int | None, typer.Option("--min", help="The same in reference tokens/s, whole chunks.")]
MaxOption = Annotated[int | None, typer.Option("--max", help="The same in reference tokens/s, whole chunks.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it can serve; fails after two minutes.")]


@app.command()
def create(
    name: NameArgument,
    *,
    model: Annotated[str, typer.Option("--model", help="A registered model.")],
    model_version: Annotated[str, typer.Option("--model-version", help="Its version.")] = "1",
    min_chunks: MinChunksOption = None,
    max_chunks: MaxChunksOption = None,
    minimum: MinOption = None,
    maximum: MaxOption = None,
    scale_to_zero: Annotated[
        bool, typer.Option("--scale-to-zero", help="Give the last chunk back when idle; needs a minimum of 0.")
    ] = False,
    overload: Annotated[
        str | None, typer.Option("--overload", help="queue (default) or reject: what happens to requests over max.")
    ] = None,
    queue_deadline: Annotated[
        float | None, typer.Option("--queue-deadline", help="Seconds that a request may wait. Default 30.")
    ] = None,
    wait: WaitOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Create an endpoint with a range, in chunks or in reference tokens/s. Default: one chunk."""
    server = connect(url, api_key, data_dir)
    low, high = _range(
        server, (model, model_version), chunks=(min_chunks, max_chunks), rates=(minimum, maximum), default=(1, 1)
    )
    own = {"overload": overload, "queue_deadline_s": queue_deadline}
    body: dict[str, Any] = {
        "name": name,
        "config": {"served_entities": [_entity(model, model_version, low, high, scale_to_zero=scale_to_zero)]},
    }
    if given := {key: value for key, value in own.items() if value is not None}:
        body["headrace"] = given
    server.post(API, body)
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
    """One endpoint: its range, chunk, profile, replicas, the last scaling decision, and what is wrong."""
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
    model: Annotated[str | None, typer.Option("--model", help="Serve another model.")] = None,
    model_version: Annotated[str | None, typer.Option("--model-version", help="Its version.")] = None,
    scale_to_zero: Annotated[bool | None, typer.Option("--scale-to-zero/--no-scale-to-zero")] = None,
    wait: WaitOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Change an endpoint's range or model; what is not named stays, in chunks. A new profile applies from here on."""
    server = connect(url, api_key, data_dir)
    now = server.get(f"{OWN_API}/{path_part(name)}")
    model, model_version = model or now["model"], model_version or str(now["model_version"])
    low, high = _range(
        server,
        (model, model_version),
        chunks=(min_chunks, max_chunks),
        rates=(minimum, maximum),
        default=(now["min_chunks"], now["max_chunks"]),
    )
    to_zero = bool(now.get("scale_to_zero")) if scale_to_zero is None else scale_to_zero
    entity = _entity(model, model_version, low, high, scale_to_zero=to_zero and low == 0)
    server.put(f"{API}/{path_part(name)}/config", {"served_entities": [entity]})
    if wait:
        wait_until_ready(server, name)
    _show(server, name, json_output=json_output)


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


def _range(
    server: Connection,
    model: tuple[str, str],
    *,
    chunks: tuple[int | None, int | None],
    rates: tuple[int | None, int | None],
    default: tuple[int, int],
) -> tuple[int, int]:
    """The range in reference tokens/s; what is not given is ``default``, in chunks, but never turned upside down."""
    for one, other, words in ((chunks[0], rates[0], "min"), (chunks[1], rates[1], "max")):
        if one is not None and other is not None:
            raise UsageError(f"give --{words}-chunks or --{words}, not both")
    if rates[0] is not None and rates[1] is not None:
        return rates[0], rates[1]
    chunk = _chunk(server, *model)
    low, high = (
        rate if rate is not None else None if count is None else count * chunk
        for rate, count in zip(rates, chunks, strict=True)
    )
    if low is None:
        low = default[0] * chunk if high is None else min(default[0] * chunk, high)
    return low, max(default[1] * chunk, low) if high is None else high


def _chunk(server: Connection, model: str, version: str) -> int:
    info = server.get(f"{API}/get-model-optimization-info/{path_part(model)}/{path_part(version)}")
    size = info.get("throughput_chunk_size")
    if not info.get("optimizable") or not size:
        why = info.get("message") or f"it has no profile; run `headrace profile {model}` first"
        raise CommandError(f"{model!r} cannot be sold in chunks: {why}")
    return int(size)


def _entity(model: str, version: str, low: int, high: int, *, scale_to_zero: bool) -> dict[str, Any]:
    return {
        "entity_name": model,
        "entity_version": version,
        "min_provisioned_throughput": low,
        "max_provisioned_throughput": high,
        "scale_to_zero_enabled": scale_to_zero,
    }


def _show(server: Connection, name: str, *, json_output: bool) -> None:
    """Both views of it: Databricks' and Headrace's own."""
    endpoint = server.get(f"{OWN_API}/{path_part(name)}")
    if json_output:
        print_json({**server.get(f"{API}/{path_part(name)}"), "headrace": endpoint})
    else:
        print_endpoint(endpoint)
