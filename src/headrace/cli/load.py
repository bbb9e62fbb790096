"""``headrace load``: put load on an endpoint or on any server, and see what its users would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from headrace.cli import load_options as given
from headrace.cli import times
from headrace.cli.errors import UsageError
from headrace.cli.load_compare import compare
from headrace.cli.load_outputs import Outputs
from headrace.cli.load_runs import LoadRuns
from headrace.cli.load_shape import Shape, check_enough
from headrace.cli.load_target import find_target
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption


class _LoadGroup(TyperGroup):
    """``load compare A B`` compares; every other first word is a target."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not (args and args[0] in self.commands) and not {"--help", "-h"} & set(args[:1]):
            args = ["run", *args]
        elif args[:1] in (["--help"], ["-h"]):
            args = ["run", "--help"]
        return super().parse_args(ctx, args)


class _LoadCommand(TyperCommand):
    """Goes by its group's name: nobody has to write ``run``."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return super().make_context(parent.info_name, args, parent.parent, **extra)


app = typer.Typer(
    cls=_LoadGroup,
    rich_markup_mode=None,
    add_completion=False,
    help="Put load on an endpoint or any OpenAI-compatible server; `load compare A B` compares two runs.",
)
app.command("compare")(compare)


@app.command("run", cls=_LoadCommand)
@given.with_request_options
def load(
    target: given.TargetArgument,
    *,
    users: Annotated[
        str | None,
        typer.Option("--users", "-u", metavar="N[,N..]", help="Closed loop: users who each wait for their answer."),
    ] = None,
    ramp: Annotated[
        float,
        typer.Option(
            "--ramp", metavar="TIME", parser=times.time_parser("--ramp", least=0), help="Over which users start."
        ),
    ] = 0.0,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="R[,R..]", help="Open loop: a rate in reference tokens/s.")
    ] = None,
    rate_chunks: Annotated[
        str | None,
        typer.Option("--rate-chunks", metavar="R[,R..]", help="Open loop: a rate in chunks of the endpoint."),
    ] = None,
    rate_requests: Annotated[
        str | None, typer.Option("--rate-requests", metavar="R[,R..]", help="Open loop: a rate in requests/s.")
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            "--arrivals",
            help="Of an open loop: poisson (the default), constant, gamma:CV, or trace (the times of the dataset).",
        ),
    ] = None,
    time_scale: Annotated[
        float | None, typer.Option("--time-scale", help="With a trace: 2 plays it at half its speed.")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option("--stages", metavar="S@R[..R],..", help="Open loop in stages, such as 60@1,30@1..4 (requests/s)."),
    ] = None,
    count: Annotated[int | None, typer.Option("--requests", "-n", min=1, help="Send this many.")] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            metavar="TIME",
            help="Measure for this long, such as 90s or 10m; load is kept on until the last of it is answered.",
        ),
    ] = None,
    sessions: Annotated[
        str | None,
        typer.Option(
            "--sessions",
            metavar="TIME",
            help="Each chat of the dataset is a session: its next turn goes out after the answer and, on average, so "
            "long to think, with the model's own answers before it. Rates and amounts are then of sessions.",
        ),
    ] = None,
    model: given.ModelOption = None,
    requests: given.RequestOptions,
    slo: given.SloOption = None,
    seed: given.SeedOption = 0,
    timeout: given.TimeoutOption = 600.0,
    processes: given.ProcessesOption = None,
    retries: given.RetriesOption = 0,
    calibration: Annotated[
        float,
        typer.Option(
            "--calibration",
            metavar="TIME",
            parser=times.time_parser("--calibration", least=0),
            help="Of the same load on a server that answers at once, before and after: what the client adds. 0: none.",
        ),
    ] = 2.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the figures as JSON, and the requests beside it as NPZ, for a comparison.",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every request.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with plots, in one file.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a run that was interrupted: say the same words again, and this."),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what every figure means and what every validity gate saw, too.")
    ] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Put load on an endpoint, or on any OpenAI-compatible server; or compare two runs (`headrace load compare A B`).

    One of --users, --rate, --rate-chunks, --rate-requests, --stages and --arrivals trace says which load, by default
    one user; --requests or --duration how much of it. Several levels (--users 1,2,4) are measured one after the other.

    Prompts are random token ids of an exact length, answered with an exact length, each one new, so that no cache
    helps; or they come from a file. Nothing is retried. Ctrl-C prints what was measured until then; with --out, the
    same words and --resume go on from there. Where a figure would say more about this client than about the server, it
    says INVALID and why, and exits with 3.
    """
    import numpy as np  # noqa: PLC0415

    from headrace.bench.workload.source import open_workload, too_long  # noqa: PLC0415
    from headrace.bench.workload.spec import Amount  # noqa: PLC0415

    if resume and out is None:
        raise UsageError("--resume goes with the --out of the run that was interrupted: it is kept beside that")
    if resume and sessions is not None:
        raise UsageError("--resume does not go with --sessions: the answers that a next turn repeats are not kept")
    objective = None if slo is None else given.objective(slo)
    how = Shape(users, ramp, rate, rate_chunks, rate_requests, arrivals, time_scale, stages)
    talks = None if sessions is None else how.sessions(sessions)
    workload = open_workload(requests.draft(seed, talks))
    amount = Amount(requests=count, duration_s=None if duration is None else times.seconds("--duration", duration))
    how.check(amount)
    where = find_target(target, model=model, url=url, key=api_key, data_dir=data_dir)
    notes = [*workload.findings]
    if requests.dataset is not None and (open_ended := int(np.isnan(workload.lengths[:, 1]).sum())):
        notes.append(
            f"{open_ended:,} of {len(workload.lengths):,} requests of the dataset do not say how long their answers "
            "are to be, so the server's own limit holds for them; --output-tokens N gives one"
        )
    if where.terms.measuring:
        notes.append(given.MEASURING)
    if where.terms.context is not None and (said := too_long(workload, where.terms.context)) is not None:
        notes.append(said)
    levels = how.levels(where, workload)
    for level in levels:
        check_enough(level, amount)
    loads = [given.load_spec(where, requests, level, how.amount(amount, level), seed, talks) for level in levels]
    specs = [given.client_spec(where, load, timeout, processes, retries) for load in loads]
    outputs = Outputs(out, csv, html)
    runs = LoadRuns(
        where, objective, calibration, notes, outputs, json_output=json_output, explain=explain, resume=resume
    )
    runs.run(specs)
