"""Where the system allows few open files, a gateway keeps some for itself and says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = """
import logging, resource
from headrace.gateway.open_files import room_for
logging.basicConfig(format="%(message)s %(fields)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
print(room_for({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("hard", "wanted", "room", "warns"),
    [(4096, 1000, 1000, False), (2048, 4096, 1536, True), (400, 4096, 200, True)],
)
def test_connections_leave_room_for_all_else(hard: int, wanted: int, room: int, warns: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(hard=hard, wanted=wanted)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(room), str(hard)]
    assert ("fewer connections than configured" in done.stderr) is warns
