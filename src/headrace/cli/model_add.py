"""``headrace models add``: what is said of a model that is to be served from this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import data_dir as local_data_dir
from headrace.cli.errors import UsageError
from headrace.cli.model_option import name_and_version
from headrace.cli.options import DataDirOption, JsonOption
from headrace.cli.output import console, print_json

if TYPE_CHECKING:
    from headrace.engines.base import ModelSettings


def add(
    name: Annotated[str, typer.Argument(help="The name that endpoints will use.")],
    *,
    model_version: Annotated[
        str | None,
        typer.Option(
            "--model-version", metavar="N", help="Which version of the name it is, such as 2. Default: the first."
        ),
    ] = None,
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
    context: Annotated[int | None, typer.Option("--context", help="Tokens of context per slot. Default 4096.")] = None,
    slots: Annotated[int, typer.Option("--slots", help="Requests in flight on a replica.")] = 1,
    threads: Annotated[int, typer.Option("--threads", help="Threads, and so cores, of a replica.")] = 1,
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
    default_max_tokens: Annotated[
        int | None, typer.Option("--default-max-tokens", help="Output limit of requests that name none.")
    ] = None,
    units_per_chunk: Annotated[
        int | None,
        typer.Option("--units-per-chunk", help="Sell it in Databricks model units, so many to a chunk, such as 50."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in place of this version of the model.")] = False,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Register a model in the local data directory: a GGUF file, weights for vLLM or SGLang, a server that already
    runs, or the simulated engine.

    A name that is registered already needs --model-version for another version of it, or --replace.
    """
    import msgspec  # noqa: PLC0415

    from headrace.models.registry import DEFAULT_CONTEXT, Registry  # noqa: PLC0415

    if bool(engine) != bool(weights):
        raise UsageError("--engine NAME and --weights WEIGHTS belong together")
    if sum(bool(given) for given in (gguf, vllm, sglang, engine, url, simulated)) != 1:
        raise UsageError("give one of --gguf PATH, --vllm WEIGHTS, --sglang WEIGHTS, --url URL and --simulated JSON")
    if vllm or sglang:
        engine, weights = ("vllm", vllm) if vllm else ("sglang", sglang)
    if engine_arg and not (engine or url):
        raise UsageError("--engine-arg is for --vllm, --sglang, --engine and --url")
    name, version = name_and_version(name, model_version)
    first, more = (url[0], url[1:]) if url else (None, [])
    engine_args = _engine_args(simulated) if simulated is not None else _flags(engine_arg or ())
    served: tuple[str, ...] = ()
    if first is not None:
        served, fitting = _look_at(first, api_key_env)
        engine_args = engine_args or fitting
        if upstream_model is None and len(served) == 1:
            upstream_model = served[0]
    model = Registry(local_data_dir(data_dir).models).add(
        name,
        version=version,
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
    _warn_of_context(model)
    _warn_of_server(model, answers=bool(served))
    if json_output:
        print_json(msgspec.to_builtins(model))
    else:
        upstream = f", which calls it {model.upstream_model}" if model.upstream_model else ""
        console().print(f"{model.spec} is registered ({model.engine}{upstream})", markup=False)


def _warn_of_context(model: ModelSettings) -> None:
    """Of one that is too small to measure."""
    from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS, REFERENCE_TOKENS  # noqa: PLC0415

    if model.context < REFERENCE_TOKENS:
        console(stderr=True).print(
            f"Warning: a context of {model.context:,} tokens holds no reference request of {REFERENCE_TOKENS:,} "
            f"({REFERENCE_INPUT_TOKENS:,} in, {REFERENCE_OUTPUT_TOKENS:,} out), so {model.name} cannot be measured, "
            f"nor sold; give --context {REFERENCE_TOKENS} or more",
            markup=False,
        )


def _warn_of_server(model: ModelSettings, *, answers: bool) -> None:
    """Of one that runs already, and of its key: they may come later, but nothing is served or measured without."""
    err = console(stderr=True)
    if model.api_key_env and not os.environ.get(model.api_key_env):
        err.print(
            f"Warning: the environment variable {model.api_key_env} is not set here; `headrace serve` and `headrace "
            "profile` need it, with the server's key",
            markup=False,
        )
    if model.url and not answers:
        err.print(
            f"Warning: {model.url} does not tell its models now: nothing answers there, or it refuses "
            f"{'the key' if model.api_key_env else 'requests without a key (--api-key-env)'}",
            markup=False,
        )


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
