"""``headrace models``: what can be served from this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import data_dir as local_data_dir
from headrace.cli.errors import UsageError
from headrace.cli.options import DataDirOption, JsonOption
from headrace.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from headrace.engines.base import ModelSettings
    from headrace.models.registry import Registry
    from headrace.profiles.profile import Profile
    from headrace.profiles.starts import Starts

app = typer.Typer(
    help="Fetch, register and list the models of the local data directory.", no_args_is_help=True, rich_markup_mode=None
)

ContextOption = Annotated[int | None, typer.Option("--context", help="Tokens of context per slot. Default 4096.")]
SlotsOption = Annotated[int, typer.Option("--slots", help="Requests in flight on a replica.")]
ThreadsOption = Annotated[int, typer.Option("--threads", help="Threads, and so cores, of a replica.")]
MaxTokensOption = Annotated[
    int | None, typer.Option("--default-max-tokens", help="Output limit of requests that name none.")
]


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


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name that endpoints will use.")],
    *,
    gguf: Annotated[Path | None, typer.Option("--gguf", metavar="PATH", help="A GGUF file on this machine.")] = None,
    vllm: Annotated[
        str | None,
        typer.Option("--vllm", metavar="WEIGHTS", help="Run by vLLM: a folder, or a name such as Qwen/Qwen3-0.6B."),
    ] = None,
    sglang: Annotated[str | None, typer.Option("--sglang", metavar="WEIGHTS", help="Run by SGLang, likewise.")] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="Run by an engine of another package; with --weights."),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", metavar="WEIGHTS", help="What that engine loads.")] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="An OpenAI-compatible server that already runs, such as http://127.0.0.1:8000/v1. Several times: "
            "servers that serve the same, each a replica.",
        ),
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option("--upstream-model", help="What that server calls the model.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", metavar="NAME", help="Environment variable that holds its key.")
    ] = None,
    simulated: Annotated[
        str | None,
        typer.Option("--simulated", metavar="JSON", help="The simulated engine, with these arguments; for tests."),
    ] = None,
    context: ContextOption = None,
    slots: SlotsOption = 1,
    threads: ThreadsOption = 1,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", help="GPUs of a replica of vLLM, SGLang and the like. Default 1; 0: on processor cores."
        ),
    ] = None,
    program: Annotated[
        Path | None,
        typer.Option("--program", metavar="PATH", help="The program of vLLM, SGLang and the like, if not on the PATH."),
    ] = None,
    engine_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-arg",
            metavar="NAME=VALUE",
            help="A further flag of vLLM, SGLang and the like, such as dtype=bfloat16; several times.",
        ),
    ] = None,
    default_max_tokens: MaxTokensOption = None,
    units_per_chunk: Annotated[
        int | None,
        typer.Option("--units-per-chunk", help="Sell it in Databricks model units, so many to a chunk, such as 50."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in place of a model of this name.")] = False,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Register a model in the local data directory: a GGUF file, weights for vLLM or SGLang, a server that already
    runs, or the simulated engine.

    A name that is registered already needs --replace.
    """
    from headrace.models.registry import DEFAULT_CONTEXT  # noqa: PLC0415
    from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS, REFERENCE_TOKENS  # noqa: PLC0415

    if bool(engine) != bool(weights):
        raise UsageError("--engine NAME and --weights WEIGHTS belong together")
    if sum(bool(given) for given in (gguf, vllm, sglang, engine, url, simulated)) != 1:
        raise UsageError("give one of --gguf PATH, --vllm WEIGHTS, --sglang WEIGHTS, --url URL and --simulated JSON")
    if vllm or sglang:
        engine, weights = ("vllm", vllm) if vllm else ("sglang", sglang)
    if engine_arg and not (engine or url):
        raise UsageError("--engine-arg is for --vllm, --sglang, --engine and --url")
    first, more = (url[0], url[1:]) if url else (None, [])
    engine_args = _engine_args(simulated) if simulated is not None else _flags(engine_arg or ())
    if first is not None:
        served, fitting = _look_at(first, api_key_env)
        engine_args = engine_args or fitting
        if upstream_model is None and len(served) == 1:
            upstream_model = served[0]
    model = _registry(data_dir).add(
        name,
        gguf=gguf,
        engine=engine,
        weights=weights,
        url=first,
        more_urls=more,
        simulated=simulated is not None,
        upstream_model=upstream_model,
        api_key_env=api_key_env,
        context=DEFAULT_CONTEXT if context is None else context,
        slots=slots,
        threads=threads,
        gpus=gpus,
        program=None if program is None else str(program),
        default_max_tokens=default_max_tokens,
        units_per_chunk=units_per_chunk,
        engine_args=engine_args,
        replace=replace,
    )
    if model.context < REFERENCE_TOKENS:
        console(stderr=True).print(
            f"Warning: a context of {model.context:,} tokens holds no reference request of {REFERENCE_TOKENS:,} "
            f"({REFERENCE_INPUT_TOKENS:,} in, {REFERENCE_OUTPUT_TOKENS:,} out), so {model.name} cannot be measured, "
            f"nor sold; give --context {REFERENCE_TOKENS} or more",
            markup=False,
        )
    if json_output:
        print_json(_told(model))
    else:
        upstream = f", which calls it {model.upstream_model}" if model.upstream_model else ""
        console().print(f"{model.name} is registered ({model.engine}{upstream})", markup=False)


@app.command("list")
def list_models(*, data_dir: DataDirOption = None, json_output: JsonOption = False) -> None:
    """Models that can be served, and those of the catalogue that were not fetched yet."""
    from headrace.models.catalogue import CATALOGUE  # noqa: PLC0415

    models = _registry(data_dir).list()
    known = {model.name for model in models}
    waiting = [entry for name, entry in sorted(CATALOGUE.items()) if name not in known]
    if json_output:
        print_json(
            {
                "models": [_told(model) for model in models],
                "catalogue": [{"name": entry.name, "description": entry.description} for entry in waiting],
            }
        )
        return
    known_profiles = {model.name: _profile(model, data_dir) for model in models}
    rows = [
        [
            model.name,
            model.engine,
            model.context,
            model.slots,
            model.threads,
            model.default_max_tokens,
            known_profiles[model.name][0],
            _where(model),
        ]
        for model in models
    ]
    rows += [
        [entry.name, "", "", "", "", "", "", f"not fetched: headrace models pull {entry.name}"] for entry in waiting
    ]
    print_table(
        ["model", "engine", ">context", ">slots", ">threads", ">max_tokens", "chunk (profile)", "where"],
        rows,
    )
    for name, (_, doubts) in known_profiles.items():
        for doubt in doubts:
            console().print(f"the profile of {name}: {doubt}; `headrace profile {name}`", markup=False)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    *,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """What is known of one model here: its settings, its profile, and whether that still holds."""
    from headrace.cli.profile_view import print_profile  # noqa: PLC0415
    from headrace.profiles import starts  # noqa: PLC0415
    from headrace.profiles.files import find, of_another_engine  # noqa: PLC0415

    model, profiles = _registry(data_dir).get(name), local_data_dir(data_dir).profiles
    profile, started = find(model, profiles), starts.load(profiles, model)
    doubts = _doubts(profile, model)
    if json_output:
        told = {"model": _told(model), "profile": _told(profile), "profile_doubts": doubts, "starts": _told(started)}
        print_json(told)
        return
    out = console()
    out.print(
        f"{name}: engine {model.engine}, {model.slots} slots of {model.context:,} tokens, {model.threads} threads, "
        f"{_where(model)}",
        markup=False,
    )
    if started is not None:
        out.print(
            f"last started in {started.seconds[-1]:.2f} s; median of the last {len(started.seconds)} starts here: "
            f"{started.median_s:.2f} s",
            markup=False,
        )
    if profile is None:
        other = of_another_engine(model, profiles)
        by = "" if other is None else f" with the engine {model.engine}, only with {other}"
        out.print(f"never measured here{by}: headrace profile {name}", markup=False)
        return
    print_profile(profile)
    for doubt in doubts:
        out.print(f"[yellow]The profile may not hold here: {doubt}. Measure again: headrace profile {name}[/yellow]")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    *,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Forget a registered model. Its weights stay where they are."""
    _registry(data_dir).remove(name)
    if json_output:
        print_json({"model": name, "removed": True})
    else:
        console().print(f"{name} is no longer registered", markup=False)


def _registry(chosen: Path | None) -> Registry:
    from headrace.models.registry import Registry  # noqa: PLC0415

    return Registry(local_data_dir(chosen).models)


def _look_at(url: str, api_key_env: str | None) -> tuple[tuple[str, ...], dict[str, object]]:
    """What a server calls its models, and the engine arguments that fit it, where it runs already."""
    from headrace.engines.openai import look_at  # noqa: PLC0415
    from headrace.models.registry import base_url  # noqa: PLC0415

    if not url.startswith(("http://", "https://")):
        return (), {}  # which the registry refuses, with the reason
    served, fitting = look_at(base_url(url), os.environ.get(api_key_env or "", ""))
    return served, dict(fitting)


def _flags(given: Sequence[str]) -> dict[str, object]:
    """Of ``NAME=VALUE``, or ``NAME`` for one that is only there; a value is JSON where it can be."""
    import msgspec  # noqa: PLC0415

    flags: dict[str, object] = {}
    for one in given:
        name, equals, value = one.partition("=")
        name = name.strip().removeprefix("--")
        if not name:
            raise UsageError(f"--engine-arg takes NAME=VALUE, such as dtype=bfloat16, not {one!r}")
        try:
            flags[name] = msgspec.json.decode(value) if equals else True
        except msgspec.DecodeError:
            flags[name] = value
    return flags


def _engine_args(simulated: str) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    try:
        return msgspec.json.decode(simulated.encode(), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise UsageError(f"--simulated takes a JSON object of engine arguments: {error}") from None


def _profile(model: ModelSettings, chosen: Path | None) -> tuple[str, list[str]]:
    """The chunk with the profile's status, and why that may not hold here."""
    from headrace.cli.profile_view import profile_label  # noqa: PLC0415
    from headrace.profiles.files import ProfileError, find, of_another_engine  # noqa: PLC0415

    profiles = local_data_dir(chosen).profiles
    try:
        profile, other = find(model, profiles), of_another_engine(model, profiles)
    except ProfileError as error:
        return "unreadable", [str(error)]
    if profile is None:
        return "never measured", [] if other is None else [f"measured with the engine {other}, not with {model.engine}"]
    doubts = _doubts(profile, model)
    label = profile_label(profile.status, simulated=profile.simulated)
    return f"{profile.chunk:,} ({label}{', doubtful' if doubts else ''})", doubts


def _doubts(profile: Profile | None, model: ModelSettings) -> list[str]:
    from headrace.cli.profile_view import doubts_of  # noqa: PLC0415
    from headrace.engines.versions import installed_version  # noqa: PLC0415

    return doubts_of(profile, model, installed_version(model.engine))


def _told(value: ModelSettings | Profile | Starts | None) -> object:
    import msgspec  # noqa: PLC0415

    return msgspec.to_builtins(value)


def _where(model: ModelSettings) -> str:
    if model.path is not None:
        return model.path if Path(model.path).is_file() else f"{model.path} (the file is not there)"
    return model.weights or " ".join(model.urls) or "nowhere: simulated"
