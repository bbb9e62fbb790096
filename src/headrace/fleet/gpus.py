"""The GPUs of this machine, by number."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headrace.engines.program import GPUS_VARIABLE

DEVICE = re.compile(r"nvidia(\d+)")


def visible_gpus(devices: Path = Path("/dev")) -> tuple[int, ...]:
    """Those that this process may use: as ``CUDA_VISIBLE_DEVICES`` says, else all that have a device file."""
    named = os.environ.get(GPUS_VARIABLE)
    if named is not None:
        return tuple(int(one) for one in named.split(",") if one.strip().isdigit())
    found = (DEVICE.fullmatch(entry.name) for entry in os.scandir(devices))
    return tuple(sorted(int(match[1]) for match in found if match))
