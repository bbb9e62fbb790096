"""The benchmark's modules, which are no package: they are run as scripts."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

sys.path[:0] = [str(BENCHMARKS / "load"), str(BENCHMARKS)]
