"""``headrace load``: put load on an endpoint and see what its users would."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import ApiError, Connection, connect, path_part
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.options import DataDirOption, JsonOption, KeyOption, UrlOption
from headrace.cli.output import print_json

if TYPE_CHECKING:
    from headrace.bench.load import Result, Target
    from headrace.bench.prompts import Prompts
    from headrace.policy.work import Weights

DEFAULT_INPUT_TOKENS = 128
DEFAULT_OUTPUT_TOKENS = 64


def load(
    endpoint: Annotated[str, typer.Argument(help="The endpoint; for another server, the model's name.")],
    *,
    users: Annotated[
        int | None, typer.Option("--users", "-u", help="Closed loop: this many users, each waiting for its answer.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Open loop: a constant rate in reference tokens/s.")
    ] = None,
    rate_chunks: Annotated[
        float | None, typer.Option("--rate-chunks", help="Open loop: a constant rate in chunks of the endpoint.")
    ] = None,
    rate_requests: Annotated[
        float | None, typer.Option("--rate-requests", help="Open loop: a constant rate in requests/s.")
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", "-n", help="Send this many.")] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", "-d", help="Send for this many seconds, then wait for the answers.")
    ] = None,
    input_tokens: Annotated[
        int | None, typer.Option("--input-tokens", help=f"Exact length of each prompt. Default {DEFAULT_INPUT_TOKENS}.")
    ] = None,
    output_tokens: Annotated[
        int | None,
        typer.Option("--output-tokens", help=f"Exact length of each answer. Default {DEFAULT_OUTPUT_TOKENS}."),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help='Prompts from a JSONL file: {"prompt": ...} or {"messages": [...]} a line.'),
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option("--vocabulary", metavar="A..B", help="Token ids to draw prompts from.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed sends the same prompts.")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that an answer may take.")] = 600.0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the result, every request in it, as JSON.")] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Put load on an endpoint: users (closed loop) or a constant rate (open loop).

    One of --users, --rate, --rate-chunks and --rate-requests says which load, by default one user; --requests or
    --duration how much of it. --rate-requests also suits servers other than Headrace, and --dataset.

    Prompts are random token ids of an exact length, answered with an exact length, each one new, so that no cache
    helps; or they come from a file. Nothing is retried. Ctrl-C prints what was measured until then.
    """
    loads = sum(given is not None for given in (users, rate, rate_chunks, rate_requests))
    if loads > 1:
        raise UsageError("give one of --users, --rate, --rate-chunks and --rate-requests")
    from headrace.bench.load import Load, Target  # noqa: PLC0415

    prompts = _prompts(dataset, input_tokens, output_tokens, vocabulary, seed)
    if requests is None and duration is None:
        which = "" if loads else "which load: --users N (default 1), --rate, --rate-chunks or --rate-requests R; and "
        raise UsageError(f"say {which}how much: --requests N, --duration SECONDS, or both")
    server = connect(url, api_key, data_dir)
    terms = _terms(server, endpoint, needed=rate is not None or rate_chunks is not None)
    if rate_chunks is not None:
        if terms.chunk is None:
            raise CommandError(f"the served entities of {endpoint!r} have chunks of different sizes; use --rate")
        rate = rate_chunks * terms.chunk
    if rate is not None:
        rate_requests = _requests_per_s(rate, terms.weights, prompts)
    if users is None and rate_requests is None:
        users = 1
    amount = Load(users=users, requests_per_s=rate_requests, requests=requests, duration_s=duration)
    target = Target(server.url, endpoint, server.key, terms.weights, timeout, server.tls())
    result = _run(target, amount, prompts, quiet=json_output)
    _finish(result, out, simulated=terms.simulated, json_output=json_output)


def _prompts(
    dataset: Path | None, input_tokens: int | None, output_tokens: int | None, vocabulary: str | None, seed: int
) -> Prompts:
    from headrace.bench.prompts import DEFAULT_VOCABULARY, TokenPrompts, read_prompts  # noqa: PLC0415

    if dataset is not None:
        if input_tokens is not None or vocabulary is not None:
            raise UsageError("--dataset brings its own prompts; leave --input-tokens and --vocabulary out")
        return read_prompts(dataset, output_tokens)
    ids = DEFAULT_VOCABULARY
    if vocabulary is not None:
        first, dots, end = vocabulary.partition("..")
        if not (dots and first.isdigit() and end.isdigit()):
            raise UsageError(f"--vocabulary is {vocabulary!r}; expected two token ids such as 1000..20000")
        ids = range(int(first), int(end))
    return TokenPrompts(
        DEFAULT_INPUT_TOKENS if input_tokens is None else input_tokens,
        DEFAULT_OUTPUT_TOKENS if output_tokens is None else output_tokens,
        seed,
        ids,
    )


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the server tells of the endpoint."""

    weights: Weights | None
    chunk: float | None
    """Reference tokens/s; None where those of its served entities differ."""
    simulated: bool
    """It is known to run the simulated engine."""


def _terms(server: Connection, endpoint: str, *, needed: bool) -> _Terms:
    """None, 0 and False where the server tells nothing and nobody asked for a rate in reference tokens."""
    from headrace.policy.work import Weights  # noqa: PLC0415

    try:
        told = server.get(f"/api/headrace/v1/endpoints/{path_part(endpoint)}")
        routed = [entity for entity in told["entities"] if entity["traffic"]]
        chunks = {float(entity["chunk"]) for entity in routed}
        # On average over where requests go: work is linear in its weights.
        weights = {
            name: sum(entity["weights"][name] * entity["traffic"] / 100 for entity in routed)
            for name in routed[0]["weights"]
        }
        return _Terms(Weights(**weights), chunks.pop() if len(chunks) == 1 else None, bool(told["simulated"]))
    except (ApiError, LookupError, TypeError) as error:
        if isinstance(error, ApiError) and error.code in ("RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED"):
            raise  # a Headrace server said so: every request would fail in the same way
        if needed:
            raise CommandError(
                f"--rate and --rate-chunks are in reference tokens, and {server.url} tells no work weights of "
                f"{endpoint!r} to this key ({error}); use --rate-requests"
            ) from None
        return _Terms(None, 0.0, False)


def _requests_per_s(rate: float, weights: Weights | None, prompts: Prompts) -> float:
    prompt = prompts.prompt(0)
    if prompt.input_tokens is None:
        raise UsageError("--rate needs requests of a known length; use --rate-requests with --dataset")
    assert weights is not None
    return rate / weights.work(prompt.input_tokens, 0, prompt.body["max_tokens"])


def _run(target: Target, amount: object, prompts: Prompts, *, quiet: bool) -> Result:
    import uvloop  # noqa: PLC0415

    from headrace.bench.load import Load, run_load  # noqa: PLC0415
    from headrace.cli.load_view import LiveProgress  # noqa: PLC0415

    assert isinstance(amount, Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if quiet or not sys.stderr.isatty():
            return runner.run(run_load(target, amount, prompts))
        with LiveProgress(amount) as live:
            return runner.run(run_load(target, amount, prompts, live.show))


def _finish(result: Result, out: Path | None, *, simulated: bool, json_output: bool) -> None:
    import msgspec  # noqa: PLC0415

    from headrace.cli.load_view import print_result  # noqa: PLC0415

    told = msgspec.to_builtins(result) | {"simulated": simulated}
    if out is not None:
        try:
            out.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
        except OSError as error:
            print_result(result, simulated=simulated)
            raise CommandError(f"cannot write {out}: {error.strerror}") from None
    if json_output:
        del told["samples"]
        print_json(told)
    else:
        print_result(result, simulated=simulated)
    if result.summary.ok == 0:
        said = next(iter(result.summary.errors), "nothing was answered in time")
        raise CommandError(f"no request was answered: {said}")
    if result.interrupted:
        raise CommandError("interrupted; the figures are of what was answered until then", status=130)
