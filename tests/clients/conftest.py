from __future__ import annotations

from collections.abc import Iterator

import pytest
from clients_programs import Programs
from clients_server import sell, with_chat
from system_server import Server

from headrace.gateway import link


@pytest.fixture(autouse=True)
def frequent_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for ticks to see the gateway's counters."""
    monkeypatch.setattr(link, "TICK_S", 0.02)
    monkeypatch.setattr(link, "RECONNECT_S", 0.02)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all client libraries: a start takes longer than most of their tests."""
    data = tmp_path_factory.mktemp("clients") / "data"
    sell(data, "llama")
    sell(data, "maverick", units_per_chunk=50)
    with Server(data) as server:
        yield with_chat(server)


@pytest.fixture(scope="session")
def programs(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with Programs(served, tmp_path_factory.mktemp("programs")) as running:
        yield running
