"""``headrace profile``: measure what one replica of a model does on this machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import connect, path_part
from headrace.cli.connection import data_dir as local_data_dir
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.live_line import live_line
from headrace.cli.load_options import objective
from headrace.cli.load_runs import INVALID_STATUS
from headrace.cli.model_option import ModelVersionOption, name_and_version
from headrace.cli.options import DataDirOption, JsonOption
from headrace.cli.output import console, print_json
from headrace.cli.profile_view import doubts_of, print_profile

if TYPE_CHECKING:
    from headrace.bench.profiling.effort import Effort
    from headrace.bench.profiling.outcome import Measured
    from headrace.bench.slo import Slo
    from headrace.engines.base import ModelSettings

LEAST_MINUTES, MOST_MINUTES = 2, 240


def profile(
    model: Annotated[
        str | None, typer.Argument(help="A registered model: NAME, by default its newest version, or NAME/VERSION.")
    ] = None,
    *,
    model_version: ModelVersionOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="About a minute instead of at most ten; marked as quick.")
    ] = False,
    slo: Annotated[
        str | None,
        typer.Option(
            "--slo",
            metavar="LIMITS",
            help="Latency target of reference requests, such as ttft_p90=2s,tpot_p90=100ms: as many requests in flight "
            "as meet it. Default: the number with the most throughput / latency.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="It ends by then, or says that it could not. Default 10.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", help="Replicas to load; default: as many as the cores hold.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of prompts and order.")] = 0,
    stop: Annotated[
        bool, typer.Option("--stop", help="Measure nothing: end the measurement that the server began at its start.")
    ] = False,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Measure a model's chunk and work weights on this machine.

    Starts replicas of its own on distinct cores, loads all of them at once, and writes the profile with its errors into
    the local data directory, where the model must be registered. Nothing else should run meanwhile: blocks that others
    disturb are repeated while there is time. A measurement with too few undisturbed ones, too wide an interval or
    weights that do not predict is not valid, says so, and takes the place of no valid one; where there is none it is
    written, sold as doubtful, and the exit status is 3. A new profile applies to an endpoint only by a config update.
    """
    from headrace.bench.profiling.effort import FULL, QUICK, full_within  # noqa: PLC0415
    from headrace.bench.profiling.lock import alone, machine_lock  # noqa: PLC0415
    from headrace.models.registry import Registry  # noqa: PLC0415
    from headrace.profiles.files import path_of  # noqa: PLC0415

    if stop:
        _stop(None if model is None else name_and_version(model)[0], data_dir, json_output=json_output)
        return
    if model is None:
        raise UsageError("say which model: headrace profile MODEL; `headrace models list` has their names")
    if quick and (minutes is not None or slo is not None):
        raise UsageError("--quick keeps its own time and the slots as they are set: leave out --minutes and --slo")
    if minutes is not None and not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise UsageError(f"--minutes is {minutes:g}; expected {LEAST_MINUTES} to {MOST_MINUTES}")
    effort = QUICK if quick else FULL if minutes is None else full_within(minutes)
    target = None if slo is None else objective(slo)
    directory = local_data_dir(data_dir)
    settings = Registry(directory.models).get(*name_and_version(model, model_version))
    path = path_of(settings, directory.profiles)
    if not json_output:
        _say_what_is_known(settings, directory.profiles)
    with alone(machine_lock()):
        measured = _measure(settings, effort, replicas, seed, target, quiet=json_output)
    kept = _keep(path, settings, measured)
    if json_output:
        import msgspec  # noqa: PLC0415

        print_json({"path": str(path), "kept": kept, **msgspec.to_builtins(measured)})
    else:
        _print(measured)
        if kept:
            console().print(f"written to {path}", markup=False)
    if not kept:
        raise CommandError(f"not written: the measurement is not valid, and the profile in {path} is; measure again")
    if measured.profile.problems:
        why = f": {'; '.join(measured.profile.problems)}" if json_output else ""
        raise CommandError(
            f"INVALID: the profile is doubtful, and {model} is sold so until it is measured again{why}", INVALID_STATUS
        )


def _stop(model: str | None, data_dir: Path | None, *, json_output: bool) -> None:
    """Of every endpoint whose model is being measured, or of those that serve ``model``. Raises CommandError where
    there is none."""
    server = connect(None, None, data_dir)
    measuring = [
        endpoint["name"]
        for endpoint in server.get("/api/headrace/v1/endpoints")["endpoints"]
        if endpoint["measuring"] and (model is None or any(each["model"] == model for each in endpoint["entities"]))
    ]
    stopped = [
        name
        for name in measuring
        if server.delete(f"/api/headrace/v1/endpoints/{path_part(name)}/measuring")["stopped"]
    ]
    if not stopped:
        raise CommandError(f"the server measures {'nothing' if model is None else f'no {model!r}'} just now")
    if json_output:
        print_json({"stopped": stopped})
    else:
        console().print(f"stopped; sold by the provisional profile: {', '.join(stopped)}", markup=False)


def _keep(path: Path, model: ModelSettings, measured: Measured) -> bool:
    """Write the profile, unless it is not valid and one that is holds for this machine and model."""
    from headrace.profiles.files import ProfileError, find, save  # noqa: PLC0415

    if measured.profile.problems and path.exists():
        with suppress(ProfileError):
            before = find(model, path.parent)
            if before is not None and not doubts_of(before, model, measured.profile.engine_version):
                return False
    save(path, measured.profile)
    return True


def _say_what_is_known(model: ModelSettings, profiles: Path) -> None:
    """Why the profile that is there does not hold here, where it does not."""
    from headrace.engines.versions import installed_version  # noqa: PLC0415
    from headrace.profiles.files import ProfileError, find  # noqa: PLC0415

    with suppress(ProfileError):
        before = find(model, profiles)
        for doubt in doubts_of(before, model, installed_version(model.engine)):
            console().print(f"the profile so far: {doubt}", markup=False)


def _measure(
    model: ModelSettings, effort: Effort, replicas: int | None, seed: int, slo: Slo | None, *, quiet: bool
) -> Measured:
    import uvloop  # noqa: PLC0415

    from headrace.bench.profiling.profiler import measure_profile  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, live_line(quiet=quiet) as show:
        return runner.run(measure_profile(model, effort, replicas=replicas, seed=seed, slo=slo, progress=show))


def _print(measured: Measured) -> None:
    print_profile(measured.profile)
    out = console()
    if measured.others is not None:
        blocks = f"{measured.disturbed_blocks} of {measured.blocks} blocks were disturbed"
        if measured.profile.simulated:
            blocks = "that disturbs no simulated engine, which waits for timers"
        out.print(f"others used {measured.others:.0%} of the cores meanwhile; {blocks}")
    for problem in measured.profile.problems:
        out.print(f"[yellow]Not valid: {problem}. Measure again with nothing else running.[/yellow]")
