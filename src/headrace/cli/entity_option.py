"""``--entity NAME=MODEL,min=1,max=2,traffic=80``: a served entity in one word of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.cli.errors import UsageError
from headrace.cli.model_option import name_and_version

FORM = "NAME=MODEL[,min=CHUNKS][,max=CHUNKS][,traffic=PERCENT][,version=V][,scale-to-zero]"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityWords:
    """What was said of a served entity; None where it was not."""

    name: str
    model: str
    version: str | None = None
    min_chunks: int | None = None
    max_chunks: int | None = None
    traffic: int | None = None
    """Percentage."""
    scale_to_zero: bool | None = None


def parse(text: str) -> EntityWords:
    """Raises UsageError that names the part that cannot be understood."""
    first, *others = text.split(",")
    name, _, model = first.partition("=")
    if not name or not model:
        raise UsageError(f"--entity is {text!r}; expected {FORM}")
    said: dict[str, str] = {}
    for part in others:
        key, equals, value = part.strip().partition("=")
        if key not in ("min", "max", "traffic", "version", "scale-to-zero"):
            raise UsageError(f"--entity {name}: {part!r} is none of min, max, traffic, version and scale-to-zero")
        if key in said:
            raise UsageError(f"--entity {name}: {key} stands twice")
        said[key] = value if equals else "yes" if key == "scale-to-zero" else ""
    model, version = name_and_version(model, said.get("version") or None)
    return EntityWords(
        name=name,
        model=model,
        version=version,
        min_chunks=_count(name, "min", said),
        max_chunks=_count(name, "max", said),
        traffic=_count(name, "traffic", said),
        scale_to_zero=_yes(name, said.get("scale-to-zero")),
    )


def _count(name: str, key: str, said: dict[str, str]) -> int | None:
    value = said.get(key)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise UsageError(f"--entity {name}: {key} is {value!r}; expected a whole number")
    return int(value)


def _yes(name: str, value: str | None) -> bool | None:
    if value not in (None, "yes", "no"):
        raise UsageError(f"--entity {name}: scale-to-zero is {value!r}; expected yes or no")
    return None if value is None else value == "yes"
