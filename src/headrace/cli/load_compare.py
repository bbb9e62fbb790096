"""``headrace load compare``: is the second run better than the first, worse, or is no difference seen?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.errors import CommandError
from headrace.cli.options import JsonOption
from headrace.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from headrace.bench.client.records import Records
    from headrace.bench.results.summary import Summary

WORSE_STATUS = 5
"""Exit status where B is worse than A in any figure."""


def records_path(out: Path) -> Path:
    """Beside the figures of a run, the requests that they are of."""
    return out.with_suffix(".npz")


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Figures of a run, as `headrace load --out A.json` wrote them.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Of another run.")],
    *,
    json_output: JsonOption = False,
) -> None:
    """Compare two runs: B less A, with intervals that hold together with 95%.

    Tells first in what the runs differ. Runs of the same seed, requests and arrivals are compared request by request.
    Exits with 5 where B is worse in any figure, and with 3 where one of the runs is INVALID.
    """
    import msgspec  # noqa: PLC0415

    from headrace.bench.results.compare import compare as compare_runs  # noqa: PLC0415
    from headrace.cli.load_runs import INVALID_STATUS  # noqa: PLC0415

    found = compare_runs(_read(a), _read(b))
    if json_output:
        print_json({"verdict": found.verdict, **msgspec.to_builtins(found)})
    else:
        if found.differs:
            print_table(["differs", "A", "B"], [[each.name, each.a, each.b] for each in found.differs])
        else:
            console().print("The runs differ in nothing that they were asked for.")
        console().print(f"{found.requests[0]} and {found.requests[1]} requests, {found.words}", markup=False)
        print_table(
            ["figure", ">A", ">B", ">B - A", ">95%, of all together, from", ">to", ">detectable", "B is"],
            [
                [
                    f"{each.name} ({each.unit})",
                    *(f"{value:.4g}" for value in (each.a, each.b)),
                    *(f"{value:+.4g}" for value in (each.difference, each.low, each.high)),
                    f"{each.detectable:.4g}",
                    each.verdict,
                ]
                for each in found.differences
            ],
        )
    if not found.valid:
        raise CommandError("INVALID: one of the runs is, so the comparison says nothing", status=INVALID_STATUS)
    if found.verdict == "worse":
        raise CommandError("B is worse than A", status=WORSE_STATUS)


def _read(path: Path) -> tuple[Summary, Records]:
    """Raises BenchError."""
    from headrace.bench.results import records_file  # noqa: PLC0415
    from headrace.bench.results.write import read_json  # noqa: PLC0415

    return read_json(path), records_file.load(records_path(path))
