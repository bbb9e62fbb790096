"""How commands print: tables for people, JSON for programs, on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200
"""Columns where output is not a terminal: a pipe has no edge at which to cut."""


def print_json(value: Any) -> None:
    """One document on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415 - only commands that print tables pay for it

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False, soft_wrap=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table; a column whose heading starts with ``>`` is set to the right."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console().print(table)


def at(ms: int | float | None) -> str:
    """A Unix time in milliseconds as local time."""
    if ms is None:
        return "-"
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | int | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def counted(count: int, noun: str) -> str:
    """``1 slot``, ``2 slots``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def span(low: float, high: float) -> str:
    """``100``, ``100 to 1,200``."""
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def chunks(low: int, high: int) -> str:
    """``1 chunk``, ``1 to 2 chunks``."""
    return f"{span(low, high)} {'chunk' if low == high == 1 else 'chunks'}"
