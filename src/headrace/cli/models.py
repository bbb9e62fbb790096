"""``headrace models``: what can be served from this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import data_dir as local_data_dir
from headrace.cli.model_add import add
from headrace.cli.model_option import ModelVersionOption, name_and_version
from headrace.cli.model_view import doubts_here, print_model, print_models
from headrace.cli.options import DataDirOption, JsonOption
from headrace.cli.output import console, print_json

if TYPE_CHECKING:
    from headrace.models.registry import Registry

app = typer.Typer(
    help="Fetch, register and list the models of the local data directory.", no_args_is_help=True, rich_markup_mode=None
)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A registered model: NAME, or NAME/VERSION.")]


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A model of the catalogue, such as smollm2-135m-instruct.")],
    *,
    variant: Annotated[str | None, typer.Option("--variant", help="Quantisation, such as Q8_0 or Q4_1.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Fetch a model of the catalogue into the cache folder, checked by its SHA-256. Does nothing if it is there."""
    from headrace.models.pull import pull as fetch  # noqa: PLC0415

    path = fetch(name, variant=variant) if json_output or not sys.stderr.isatty() else _pull_with_bar(name, variant)
    if json_output:
        print_json({"model": name, "path": str(path), "bytes": path.stat().st_size})
    else:
        console().print(f"{name} is at {path}", markup=False)


def _pull_with_bar(name: str, variant: str | None) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    from headrace.models.pull import pull as fetch  # noqa: PLC0415

    words = {
        "download": "downloading",
        "extract": "extracting",
        "convert": "converting",
        "wait": "waiting for another pull",
    }
    columns = (TextColumn("{task.description:<12}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, description=words.get(what, what))

        return fetch(name, variant=variant, progress=show)


app.command()(add)


@app.command("list")
def list_models(*, data_dir: DataDirOption = None, json_output: JsonOption = False) -> None:
    """Models that can be served, each version by itself, and those of the catalogue that were not fetched yet."""
    import msgspec  # noqa: PLC0415

    from headrace.engines.base import FIRST_VERSION  # noqa: PLC0415
    from headrace.models.catalogue import CATALOGUE  # noqa: PLC0415

    models = _registry(data_dir).list()
    there = {model.name for model in models if model.version == FIRST_VERSION}
    waiting = [entry for name, entry in sorted(CATALOGUE.items()) if name not in there]
    if json_output:
        print_json(
            {
                "models": msgspec.to_builtins(models),
                "catalogue": [{"name": entry.name, "description": entry.description} for entry in waiting],
            }
        )
    else:
        print_models(models, [entry.name for entry in waiting], local_data_dir(data_dir).profiles)


@app.command()
def show(
    model: ModelArgument,
    *,
    model_version: ModelVersionOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """What is known of a model here: its settings, its profile, and whether that still holds. By default of its newest
    version."""
    import msgspec  # noqa: PLC0415

    from headrace.profiles import starts  # noqa: PLC0415
    from headrace.profiles.files import find  # noqa: PLC0415

    registry, profiles = _registry(data_dir), local_data_dir(data_dir).profiles
    settings = registry.get(*name_and_version(model, model_version))
    versions = registry.versions(settings.name)
    if not json_output:
        print_model(settings, versions, profiles)
        return
    profile = find(settings, profiles)
    told = {
        "model": settings,
        "versions": versions,
        "profile": profile,
        "profile_doubts": doubts_here(profile, settings),
        "starts": starts.load(profiles, settings),
    }
    print_json(msgspec.to_builtins(told))


@app.command()
def remove(
    model: ModelArgument,
    *,
    model_version: ModelVersionOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Forget a registered model, or one of several versions. Its weights stay where they are, and what serves it serves
    on."""
    name, version = name_and_version(model, model_version)
    removed = _registry(data_dir).remove(name, version)
    if json_output:
        print_json({"model": name, "version": removed, "removed": True})
    else:
        console().print(f"{name}/{removed} is no longer registered", markup=False)


def _registry(chosen: Path | None) -> Registry:
    from headrace.models.registry import Registry  # noqa: PLC0415

    return Registry(local_data_dir(chosen).models)
