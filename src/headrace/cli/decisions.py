"""``headrace decisions``: recorded scaling decisions, decided again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from headrace import __version__
from headrace.cli.errors import CommandError
from headrace.cli.options import JsonOption
from headrace.cli.output import console, print_json
from headrace.decisions.reader import read
from headrace.planner.replay import Difference, Replay, replay

app = typer.Typer(help="Recorded scaling decisions.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def decisions() -> None:
    """Recorded scaling decisions."""


@app.command("replay")
def replay_file(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="What `headrace serve --record-decisions FILE` wrote."),
    ],
    *,
    json_output: JsonOption = False,
) -> None:
    """Decide again what was recorded and compare, decision by decision. Exit status 1 at the first difference."""
    came = replay(read(file))
    if json_output:
        told = asdict(came) | {"entities": len(came.entities), "endpoints": sorted(came.endpoints)}
        told |= {"versions": sorted(came.versions)}
        print_json(told | {"identical": came.difference is None})
    if came.difference is not None:
        raise CommandError(_otherwise(came, came.difference))
    if not json_output:
        entities, endpoints = _counted(len(came.entities), "served entity"), _counted(len(came.endpoints), "endpoint")
        segments = "" if came.segments == 1 else f" in {came.segments} segments"
        console().print(
            f"{_counted(came.decisions, 'decision')} on {entities} of {endpoints} over {came.seconds:.0f} s{segments}, "
            f"all identical; {came.changes} changed the number of chunks",
            markup=False,
        )


def _otherwise(came: Replay, difference: Difference) -> str:
    recorded, again = difference.reason
    what = f"recorded {recorded!r}, decided again {again!r}"
    if recorded == again:
        what = f"{recorded!r} both times, of other inputs than were recorded"
    versions = ", ".join(sorted(came.versions - {__version__}))
    other = f"; recorded by version {versions}, and this is {__version__}" if versions else ""
    where = f"{difference.place}: another decision on {difference.entity}"
    return f"{where} after {came.decisions} identical ones: {what}{other}"


def _counted(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
