"""``headrace capacity``: the largest rate that an endpoint holds within an SLO, and the range to buy for it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import load_options as given
from headrace.cli import times
from headrace.cli.capacity_range import Users
from headrace.cli.capacity_run import CapacityRun
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.load_outputs import check_writable
from headrace.cli.load_target import find_target
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption


@given.with_request_options
def capacity(
    target: given.TargetArgument,
    *,
    slo: Annotated[str, typer.Option("--slo", metavar="LIMITS", help="As with `headrace load`.")],
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="The search takes no longer, with --state over all its runs; a search that was UNRESOLVED goes on "
            "with a larger one.",
        ),
    ] = "20m",
    width: Annotated[
        float, typer.Option("--width", help="Of the 95% interval that is asked for, in percent of the capacity.")
    ] = 5.0,
    cv: Annotated[
        float | None,
        typer.Option("--cv", help="Coefficient of variation of the gaps between arrivals. Default 1: Poisson."),
    ] = None,
    most_requests: Annotated[
        float | None, typer.Option("--most-rate", help="Look no higher than so many requests/s.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="Keep what was found here; where it exists, go on from it, with the same words, and more --budget.",
        ),
    ] = None,
    model: given.ModelOption = None,
    requests: given.RequestOptions,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="A dataset with times: its burstiness sizes the range."),
    ] = None,
    demand: Annotated[
        float | None,
        typer.Option("--demand", help="Requests/s that your users make on average. With a trace: its own, by default."),
    ] = None,
    seed: given.SeedOption = 0,
    timeout: given.TimeoutOption = 600.0,
    processes: given.ProcessesOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the answer as JSON.")] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """The largest open-loop rate at which an endpoint, or any OpenAI-compatible server, holds an SLO.

    Puts load on it for as long as --budget allows: one stream, then more users, then rates above and below, ever
    nearer; at last the rate that it found, again, with new requests. Answers with a rate that was held, an interval
    that holds the capacity with 95% probability, and the range to buy. Where the budget ends first it says UNRESOLVED
    and how far it came, and exits with 4. Use requests like your own: --dataset, --trace or their lengths.
    """
    from headrace.bench.workload.source import open_workload  # noqa: PLC0415
    from headrace.bench.workload.spec import Amount, ClosedLoop  # noqa: PLC0415

    if requests.dataset is not None and trace is not None:
        raise UsageError("give one of --dataset and --trace")
    objective = given.objective(slo)
    budget_s = times.seconds("--budget", budget)
    for option, figure in (("--cv", cv), ("--most-rate", most_requests), ("--demand", demand)):
        if figure is not None and not 0 < figure < math.inf:
            raise UsageError(f"{option} is {figure:g}; expected a number above 0")
    if not 0 < width < 100:
        raise UsageError(f"--width is {width:g}; expected percent, such as 5")
    if trace is not None:
        requests = replace(requests, dataset=trace)
    workload = open_workload(requests.draft(seed))
    if out is not None:
        check_writable(out)
    where = find_target(target, model=model, url=url, key=api_key, data_dir=data_dir)
    if where.terms.measuring:
        raise CommandError(given.MEASURING)
    load = given.load_spec(where, requests, ClosedLoop(users=1), Amount(requests=1), seed)
    spec = given.client_spec(where, load, timeout, processes, retries=0)
    most_rate = math.inf if most_requests is None else most_requests
    search = CapacityRun(where, objective, budget_s, width / 100, cv, most_rate, seed, state)
    found = search.run(spec, quiet=json_output)
    users = Users(demand, cv, workload.trace_s)
    search.conclude(found, users, out, json_output=json_output)
