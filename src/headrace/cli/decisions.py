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
from headrace.policy.scaling import LAW

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
    """Decide again what was recorded and compare, decision by decision. Exit status 1 at the first difference.

    What another law recorded is compared by the number of chunks alone: it has words of its own.
    """
    came = replay(read(file))
    if json_output:
        told = asdict(came) | {"entities": len(came.entities), "endpoints": sorted(came.endpoints)}
        told |= {"versions": sorted(came.versions), "laws": sorted(came.laws), "law": LAW}
        print_json(told | {"identical": came.difference is None})
    if came.difference is not None:
        raise CommandError(_otherwise(came, came.difference))
    if not json_output:
        entities, endpoints = _counted(len(came.entities), "served entity"), _counted(len(came.endpoints), "endpoint")
        segments = "" if came.segments == 1 else f" in {came.segments} segments"
        agree = "all identical" if came.laws <= {LAW} else f"all with the same number of chunks{_other_laws(came)}"
        console().print(
            f"{_counted(came.decisions, 'decision')} on {entities} of {endpoints} over {came.seconds:.0f} s{segments}, "
            f"{agree}; {came.changes} changed the number of chunks",
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
    return f"{where} after {came.decisions} identical ones: {what}{other}{_other_laws(came)}"


def _other_laws(came: Replay) -> str:
    """Where the law is another one since, a difference is no fault of the log."""
    laws = ", ".join(str(law) for law in sorted(came.laws - {LAW}))
    return f"; recorded by law {laws}, and this is law {LAW}" if laws else ""


def _counted(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
