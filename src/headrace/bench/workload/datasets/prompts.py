"""Plain prompts: one a line of a text file, or a row of a CSV file with a column that is named for them."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.files import lines, opened
from headrace.bench.workload.datasets.rows import Text

COLUMNS = ("prompt", "prompts", "text", "question", "instruction")


def read_prompts(path: str) -> Iterator[Text | None]:
    """None for a row whose prompt is empty. Raises BenchError naming the line."""
    _, first = next(lines(path), (0, ""))
    place = _column(next(csv.reader([first]), []))
    if place is None:
        return (Text({"prompt": line}) for _, line in lines(path))
    return _read_column(path, place)


def _read_column(path: str, place: int) -> Iterator[Text | None]:
    with opened(path, newline="") as text:
        reader = csv.reader(text, strict=True)
        next(reader)
        try:
            for row in reader:
                if len(row) <= place:
                    yield None
                else:
                    yield Text({"prompt": row[place]}) if row[place].strip() else None
        except csv.Error as error:
            raise BenchError(f"{path}, line {reader.line_num}: {error}; expected CSV: is the file cut off?") from None


def _column(header: list[str]) -> int | None:
    names = [name.strip().lower() for name in header]
    return next((names.index(name) for name in COLUMNS if name in names), None)
