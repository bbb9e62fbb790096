"""The servers of the tests of whole systems, for tests that break them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "system"))
