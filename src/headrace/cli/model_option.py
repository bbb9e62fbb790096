"""A model in the words of a command: ``mine``, or ``mine/2`` for one of its versions, as MLflow writes them."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.errors import UsageError

ModelVersionOption = Annotated[
    str | None,
    typer.Option("--model-version", metavar="N", help="The model's version; MODEL/N says the same."),
]


def name_and_version(text: str, said: str | None = None) -> tuple[str, str | None]:
    """``said``: by ``--model-version``. The version is None where none is said. Raises UsageError."""
    name, slash, version = text.partition("/")
    if slash and not (name and version.isascii() and version.isdigit()):
        raise UsageError(
            f"{text!r} is no model: expected its name, which has no / in it, or NAME/VERSION with a whole number, such "
            "as mine/2"
        )
    if version and said not in (None, version):
        raise UsageError(f"{text!r} is version {version}, and --model-version says {said}: leave one of them out")
    return name, version or said
