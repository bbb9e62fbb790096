"""The options that ``headrace load`` and ``headrace capacity`` share, and what they come to."""

from __future__ import annotations

import functools
import inspect
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from headrace.cli import load_words, times
from headrace.cli.errors import UsageError

if TYPE_CHECKING:
    from headrace.bench.client.spec import ClientSpec
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target
    from headrace.bench.workload.spec import Amount, Arrivals, Content, Dataset, LoadSpec, Sessions, Synthetic

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="ENDPOINT|URL",
        help="An endpoint of this server; or the URL of any OpenAI-compatible server (http://HOST:PORT/v1), or of one "
        "endpoint (https://HOST/serving-endpoints/NAME/invocations).",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="With a URL: the model's name there, where the server has several.")
]
InputOption = Annotated[
    str | None,
    typer.Option("--input-tokens", metavar="LENGTHS", help=f"{load_words.LENGTHS_HELP}. Default 2048."),
]
OutputOption = Annotated[str | None, typer.Option("--output-tokens", metavar="LENGTHS", help="Likewise. Default 256.")]
DatasetOption = Annotated[
    Path | None,
    typer.Option(
        "--dataset",
        metavar="FILE",
        help="Requests of a file: OpenAI chats or prompts (JSONL), ShareGPT, plain prompts, a table of lengths, or a "
        "trace (Azure, Mooncake, BurstGPT). Its format is recognised.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Of the dataset: chat, sharegpt, prompts, lengths, azure, mooncake or burstgpt."),
]
ApiOption = Annotated[str, typer.Option("--api", help="completions or chat, for prompts made here.")]
TextOption = Annotated[
    bool, typer.Option("--text", help="Prompts of prose, for servers that take no token ids. Always so with chat.")
]
TokenizerOption = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="FILE", help="The model's tokenizer.json, which makes prose exact in length."),
]
VocabularyOption = Annotated[
    str | None,
    typer.Option("--vocabulary", metavar="A..B", help="Token ids to draw prompts from. Default 1000..20000."),
]
ReuseOption = Annotated[
    bool, typer.Option("--reuse", help="Let a prefix cache help: no head of its own in front of every prompt.")
]
FreeLengthOption = Annotated[
    bool,
    typer.Option("--free-length", help="The model ends its answers; the output length is only their limit."),
]
NoStreamOption = Annotated[bool, typer.Option("--no-stream", help="Ask for whole answers, in place of streams.")]
FieldOption = Annotated[
    list[str] | None, typer.Option("--field", metavar="NAME=VALUE", help="One more field of every body. Repeatable.")
]
SloOption = Annotated[
    str | None,
    typer.Option(
        "--slo",
        metavar="LIMITS",
        help="What a good answer is: such as ttft_p99=2s,tpot_p99=100ms,e2e_p90=30s, or a preset such as "
        "mlperf:llama3.1-8b. Timed from when a request was due.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed sends the same requests at the same times.")
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=times.time_parser("--timeout"),
        help="That an answer may take, such as 90s or 10m.",
    ),
]
ProcessesOption = Annotated[
    int | None, typer.Option("--processes", min=1, help="Of the client. Default: one for every two cores, at most 8.")
]
RetriesOption = Annotated[
    int, typer.Option("--retries", min=0, help="How often a request that was turned away (429, 503) is sent again.")
]


MEASURING = (
    "the server is measuring this endpoint's model just now, which disturbs this load as the load disturbs it; wait "
    "until `headrace status` says that it is done"
)


def objective(words: str) -> Slo:
    """What ``--slo`` says. Raises UsageError."""
    from headrace.bench.errors import BenchError  # noqa: PLC0415
    from headrace.bench.slo import parse  # noqa: PLC0415

    try:
        return parse(words)
    except BenchError as error:
        raise UsageError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What is sent, as the command line says it: each field is an option, see ``with_request_options``."""

    input_tokens: InputOption = None
    output_tokens: OutputOption = None
    dataset: DatasetOption = None
    dataset_format: FormatOption = None
    api: ApiOption = "completions"
    text: TextOption = False
    tokenizer: TokenizerOption = None
    vocabulary: VocabularyOption = None
    reuse: ReuseOption = False
    free_length: FreeLengthOption = False
    no_stream: NoStreamOption = False
    field: FieldOption = None

    def draft(self, seed: int, sessions: Sessions | None = None) -> LoadSpec:
        """What is sent, wherever it goes and however it comes. Raises UsageError."""
        from headrace.bench.workload.spec import Amount, ClosedLoop, LoadSpec  # noqa: PLC0415

        return LoadSpec(
            model="",
            source=self.source(),
            content=self.content(None),
            arrivals=ClosedLoop(users=1),
            amount=Amount(requests=1),
            seed=seed,
            sessions=sessions,
        )

    def source(self) -> Synthetic | Dataset:
        """Raises UsageError, and BenchError for a dataset that cannot be read."""
        from headrace.bench.workload.datasets.recognise import recognise  # noqa: PLC0415
        from headrace.bench.workload.spec import Dataset, Synthetic  # noqa: PLC0415

        if self.dataset is None:
            if self.dataset_format is not None:
                raise UsageError("--format is of a --dataset; give one")
            reference = Synthetic()
            return Synthetic(
                input=load_words.lengths("--input-tokens", self.input_tokens) if self.input_tokens else reference.input,
                output=(
                    load_words.lengths("--output-tokens", self.output_tokens)
                    if self.output_tokens
                    else reference.output
                ),
            )
        if self.input_tokens is not None:
            raise UsageError("--dataset brings its own prompts; leave --input-tokens out")
        if self.output_tokens is not None and not self.output_tokens.isdigit():
            raise UsageError(
                f"--output-tokens is {self.output_tokens!r}; with --dataset expected one number, for requests that do "
                "not say their own"
            )
        return Dataset(
            path=str(self.dataset),
            format=load_words.dataset_format(self.dataset_format) or recognise(str(self.dataset)),
            output_tokens=None if self.output_tokens is None else int(self.output_tokens),
        )

    def content(self, path: str | None) -> Content:
        """``path``: of the target. Raises UsageError."""
        from headrace.bench.workload.spec import Content  # noqa: PLC0415

        if self.api not in ("completions", "chat"):
            raise UsageError(f"--api is {self.api!r}; expected completions or chat")
        plain = Content()
        return Content(
            api="chat" if self.api == "chat" else "completions",
            prompt="text" if self.text or self.tokenizer is not None else "ids",
            tokenizer=self.tokenizer,
            vocabulary=load_words.vocabulary(self.vocabulary) if self.vocabulary else plain.vocabulary,
            reuse=self.reuse,
            stream=not self.no_stream,
            force_length=not self.free_length,
            path=path,
            salt=secrets.randbits(32),  # a prefix cache may hold the prompts of the last run
            extra=load_words.fields(self.field or []),
        )


def with_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of ``RequestOptions`` in place of its parameter ``requests``."""
    own = inspect.signature(command, eval_str=True).parameters
    kinds = get_type_hints(RequestOptions, include_extras=True)
    shared = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=kinds[each.name])
        for each in fields(RequestOptions)
    ]
    parameters = [each for name in own for each in (shared if name == "requests" else [own[name]])]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        options = {each.name: given.pop(each.name) for each in shared}
        command(**given, requests=RequestOptions(**options))

    # Where typer looks for the options of a command.
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def load_spec(
    target: Target,
    options: RequestOptions,
    arrivals: Arrivals,
    amount: Amount,
    seed: int,
    sessions: Sessions | None = None,
) -> LoadSpec:
    """Raises UsageError and BenchError."""
    from headrace.bench.workload.spec import LoadSpec  # noqa: PLC0415

    return LoadSpec(
        model=target.model,
        source=options.source(),
        content=options.content(target.path),
        arrivals=arrivals,
        amount=amount,
        seed=seed,
        sessions=sessions,
    )


def client_spec(target: Target, load: LoadSpec, timeout_s: float, processes: int | None, retries: int) -> ClientSpec:
    """Raises BenchError later, where ``Run`` looks at it."""
    from headrace.bench.client.spec import ClientSpec  # noqa: PLC0415

    return ClientSpec(
        load=load,
        url=target.url,
        key=target.key,
        timeout_s=timeout_s,
        processes=default_processes() if processes is None else processes,
        retries=retries,
        certificate=target.certificate,
    )


def default_processes() -> int:
    """The other half of the machine is for what is measured, where that runs here too."""
    return max(1, min(8, len(os.sched_getaffinity(0)) // 2))
