"""Reading what the options of a load say: lengths, levels, arrivals, stages. Raises UsageError with what was
expected."""

from __future__ import annotations

import json
import re
from typing import Any, cast, get_args

from headrace.bench.workload.spec import (
    Constant,
    DatasetFormat,
    Gamma,
    Lengths,
    LogNormal,
    Normal,
    Poisson,
    Stage,
    Stages,
    Uniform,
)
from headrace.cli.errors import UsageError

FIGURE = r"(\d+(?:\.\d+)?)"
LENGTHS_HELP = "N, A..B (uniform), normal:MEAN,SD or lognormal:MEDIAN,SIGMA"


def lengths(option: str, words: str) -> Lengths:
    """``2048``, ``100..300``, ``normal:1024,200`` or ``lognormal:512,0.7``, each with an optional ``,LOW..HIGH``."""
    kind, colon, figures = words.partition(":")
    try:
        if not colon:
            return Uniform(*_span(kind)) if ".." in kind else Uniform(int(kind), int(kind))
        first, second, *rest = figures.split(",")
        low, high = _span(rest[0]) if rest else (1, 1 << 20)
        if len(rest) > 1:
            raise ValueError
        if kind == "normal":
            return Normal(float(first), float(second), low, high)
        if kind == "lognormal":
            return LogNormal(float(first), float(second), low, high)
    except ValueError:
        pass
    raise UsageError(f"{option} is {words!r}; expected {LENGTHS_HELP}, such as 2048 or normal:1024,200,64..4096")


def _span(words: str) -> tuple[int, int]:
    low, dots, high = words.partition("..")
    if not dots:
        raise ValueError
    return int(low), int(high)


def levels(option: str, words: str) -> list[float]:
    """``4`` or ``1,2,4,8``: one run for each."""
    try:
        found = [float(word) for word in words.split(",")]
    except ValueError:
        found = []
    if not found or any(not 0 < level < 1e7 for level in found):
        raise UsageError(f"{option} is {words!r}; expected a number above 0, or several such as 1,2,4")
    return found


def arrivals(words: str, rate: float) -> Constant | Poisson | Gamma:
    """``poisson``, ``constant`` or ``gamma:CV``, at so many requests/s."""
    kind, colon, figure = words.partition(":")
    if words == "constant":
        return Constant(rate)
    if words == "poisson":
        return Poisson(rate)
    try:
        if kind == "gamma" and colon and 0 < float(figure) < 1000:
            return Gamma(rate, float(figure))
    except ValueError:
        pass
    raise UsageError(f"--arrivals is {words!r}; expected poisson, constant, gamma:CV (such as gamma:3) or trace")


def stages(words: str) -> Stages:
    """``60@2,30@2..8,60@8``: seconds at a rate, or from one rate to another, in requests/s."""
    found = []
    for part in words.split(","):
        match = re.fullmatch(rf"{FIGURE}@{FIGURE}(?:\.\.{FIGURE})?", part.strip())
        if match is None or not float(match[1]):
            raise UsageError(f"--stages is {words!r}; expected SECONDS@RATE or SECONDS@FROM..TO, such as 60@1,30@1..4")
        found.append(Stage(float(match[1]), float(match[2]), float(match[3] or match[2])))
    return Stages(tuple(found))


def dataset_format(word: str | None) -> DatasetFormat | None:
    for known in get_args(DatasetFormat):
        if word == known:
            return cast(DatasetFormat, known)
    if word is None:
        return None
    raise UsageError(f"--format is {word!r}; expected one of {', '.join(get_args(DatasetFormat))}")


def vocabulary(words: str) -> tuple[int, int]:
    first, dots, end = words.partition("..")
    if not (dots and first.isdigit() and end.isdigit()):
        raise UsageError(f"--vocabulary is {words!r}; expected two token ids such as 1000..20000")
    return int(first), int(end)


def fields(given: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` each; the value is JSON, or else a string."""
    found: dict[str, Any] = {}
    for words in given:
        name, equals, value = words.partition("=")
        if not (name and equals):
            raise UsageError(f"--field is {words!r}; expected NAME=VALUE, such as temperature=0.7")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
