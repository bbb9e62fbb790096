from __future__ import annotations

import pytest

from headrace.gateway import link


@pytest.fixture(autouse=True)
def frequent_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for ticks to see the gateway's counters."""
    monkeypatch.setattr(link, "TICK_S", 0.02)
    monkeypatch.setattr(link, "RECONNECT_S", 0.02)
