"""Twenty kills at random, as ``make bench-chaos`` does two hundred; and that the harness would notice what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos_round import missing, run_round

pytestmark = pytest.mark.system


def test_after_twenty_kills_every_request_that_got_a_byte_is_accounted_for_once(tmp_path: Path) -> None:
    report = run_round(tmp_path, kills=20, seed=7, say=print)
    assert report.problems == []
    assert missing(report.kills) == []
    assert any(kill.in_transaction for kill in report.kills)
    assert sum(attempt.complete for attempt in report.attempts) > 20
