"""``headrace profile``: measure what one replica of a model does on this machine."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import data_dir as local_data_dir
from headrace.cli.options import DataDirOption, JsonOption
from headrace.cli.output import console, number, print_json, print_table
from headrace.cli.profile_view import profile_label, work_formula

if TYPE_CHECKING:
    from headrace.bench.outcome import Effort, Measured
    from headrace.engines.base import ModelSettings
    from headrace.profiles.profile import ShapeResult


def profile(
    model: Annotated[str, typer.Argument(help="A registered model.")],
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="About a minute instead of about nine; marked as quick.")
    ] = False,
    replicas: Annotated[
        int | None, typer.Option("--replicas", help="Replicas to load; default: as many as the cores hold.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of prompts and order.")] = 0,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Measure a model's chunk and work weights on this machine.

    Starts replicas of its own on distinct cores, loads all of them at once, and writes the profile with its errors into
    the local data directory, where the model must be registered. Nothing else should run meanwhile. A new profile
    applies to an endpoint only by a config update.
    """
    from headrace.bench.outcome import FULL, QUICK  # noqa: PLC0415
    from headrace.bench.profile_lock import alone, machine_lock  # noqa: PLC0415
    from headrace.models.registry import Registry  # noqa: PLC0415
    from headrace.profiles import files  # noqa: PLC0415

    directory = local_data_dir(data_dir)
    settings = Registry(directory.models).get(model)
    path = directory.profiles / f"{model}.json"
    with alone(machine_lock()):
        measured = _measure(settings, QUICK if quick else FULL, replicas, seed, quiet=json_output)
    files.save(path, measured.profile)
    if json_output:
        import msgspec  # noqa: PLC0415

        print_json({"path": str(path), **msgspec.to_builtins(measured)})
    else:
        _print(measured, path)


def _measure(model: ModelSettings, effort: Effort, replicas: int | None, seed: int, *, quiet: bool) -> Measured:
    import uvloop  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from headrace.bench.profiler import measure_profile  # noqa: PLC0415

    silent = quiet or not sys.stderr.isatty()
    bar = Progress(
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console(stderr=True),
        transient=True,
    )
    task = bar.add_task("", total=1.0)

    def show(words: str, part: float) -> None:
        bar.update(task, completed=part, description=words)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, nullcontext() if silent else bar:
        return runner.run(
            measure_profile(model, effort, replicas=replicas, seed=seed, progress=None if silent else show)
        )


def _print(measured: Measured, path: Path) -> None:
    profile, out = measured.profile, console()
    half = (profile.chunk_high - profile.chunk_low) / 2 / profile.chunk_mean
    engine = "" if profile.simulated else f"{profile.engine}, "
    label = profile_label(profile.status, simulated=profile.simulated)
    out.print(f"{profile.model} ({engine}{label}): chunk [bold]{profile.chunk:,}[/bold] reference tokens/s")
    out.print(
        f"mean {profile.chunk_mean:,.1f}, 95% interval {profile.chunk_low:,.1f} to {profile.chunk_high:,.1f} "
        f"(±{half:.1%}); {profile.replicas_loaded} replicas loaded, {profile.slots} in flight on each, "
        f"{profile.duration_s:.0f} s"
    )
    if measured.operating_points:
        print_table(
            [">in flight", ">tokens/s a replica", ">latency (s)", ">throughput / latency"],
            [
                [point.slots, number(point.tokens_per_s, 1), number(point.latency_s, 2), number(point.merit, 2)]
                for point in measured.operating_points
            ],
        )
    print_table(
        ["input/output tokens", ">requests", ">measured (s)", ">predicted (s)", ">error", ""],
        [_row(shape, "") for shape in profile.shapes] + [_row(measured.held_out, "not fitted to")],
    )
    out.print(f"work = {work_formula(profile.weights)}")
    start = "" if profile.start_s is None else f"start of a replica {profile.start_s:.1f} s"
    memory = "" if profile.memory_bytes is None else f"memory of a replica {profile.memory_bytes / 2**20:,.0f} MiB"
    if start or memory:
        out.print(", ".join(part for part in (start, memory) if part))
    if measured.disturbed:
        out.print(
            f"[yellow]Disturbed: others used {measured.others:.0%} of the cores meanwhile. Measure again.[/yellow]"
        )
    out.print(f"written to {path}", markup=False)


def _row(shape: ShapeResult, note: str) -> list[object]:
    return [
        f"{shape.input_tokens}/{shape.output_tokens}",
        shape.requests,
        f"{shape.seconds:.3f}",
        f"{shape.predicted_s:.3f}",
        f"{shape.predicted_s / shape.seconds - 1:+.1%}",
        note,
    ]
