"""What the environments of client libraries are made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LISTS = sorted((Path(__file__).parent / "pins").glob("*.txt"))


@pytest.mark.parametrize("pins", LISTS, ids=lambda pins: pins.stem)
def test_every_package_is_pinned_once(pins: Path) -> None:
    lines = pins.read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line) for line in lines)
    names = [line.partition("==")[0].lower() for line in lines]
    assert len(set(names)) == len(names)
