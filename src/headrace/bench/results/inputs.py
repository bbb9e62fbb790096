"""What a run was asked for, by name: only what has a part in it; and in what two runs differ."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.bench import slo as objectives
from headrace.bench.results.summary import Summary
from headrace.bench.workload.spec import Dataset, LoadSpec

TEXTS = ("chat", "sharegpt", "prompts")
"""Formats of datasets that bring their prompts; of the others these are made here, to length."""
CHATS = ("chat", "sharegpt")
OF_ONE_RUN = frozenset(("content.salt", "content.prose.origin"))
"""What is new in every run and makes no other load."""


class Differing(msgspec.Struct, frozen=True):
    """Something that is not the same in both runs; empty where one does not have it."""

    name: str
    a: str
    b: str


def inputs(summary: Summary) -> dict[str, str]:
    """Names are those of the specification, and before them where the load went and what was wanted."""
    objective = "; ".join(map(objectives.describe, summary.slo.criteria)) if summary.slo else "none"
    resumed = ", ".join(f"from {each.schedule_s:.1f} s on" for each in summary.segments[1:])
    head = {"target": summary.target, "objective": objective, "client": summary.client, "resumed": resumed}
    server = {f"server.{name}": value for name, value in summary.server.items()}
    idle = without_part(summary.spec)
    load = {name: value for name, value in flat("", msgspec.to_builtins(summary.spec)) if name not in idle}
    return {name: value for name, value in (head | server | load).items() if value}


def without_part(spec: LoadSpec) -> frozenset[str]:
    """Settings that change nothing in this load."""
    source, content = spec.source, spec.content
    texts = isinstance(source, Dataset) and source.format in TEXTS
    found = set()
    if isinstance(source, Dataset) and source.format in CHATS:
        found.add("content.api")
    if texts or content.api == "chat":
        found.add("content.prompt")
    if texts or content.api == "chat" or content.prompt == "text":
        found.add("content.vocabulary")
    if content.reuse:
        found.add("content.salt")
    return frozenset(found)


def differing(a: Summary, b: Summary) -> tuple[Differing, ...]:
    """In the order of ``inputs``."""
    left, right = inputs(a), inputs(b)
    return tuple(
        Differing(name, left.get(name, ""), right.get(name, ""))
        for name in {**left, **right}
        if name not in OF_ONE_RUN and left.get(name, "") != right.get(name, "")
    )


def flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Every value under a name that says where it stands; without those that are none."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flat(f"{path}.{name}" if path else str(name), inner)
    elif value is not None and value != {}:
        yield (path, str(value))
