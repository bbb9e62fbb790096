"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The server; else HEADRACE_URL, DATABRICKS_HOST, or the local server's."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="Its key; else HEADRACE_API_KEY, DATABRICKS_TOKEN, or the local admin key. Others can see the words of a "
        "command that runs, so prefer the environment.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Data directory; else HEADRACE_DATA_DIR, or ./headrace-data."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
EndpointOption = Annotated[str | None, typer.Option("--endpoint", metavar="NAME", help="Only this endpoint.")]
