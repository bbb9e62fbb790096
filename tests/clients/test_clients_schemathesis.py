"""Schemathesis against the REST API of a running server: what its OpenAPI document promises holds for whatever is sent.

``schemathesis.toml`` has what it is told, and each check that is not on everywhere with its reason.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_programs import program_of, surroundings
from clients_server import CHAT, config, sell, with_chat
from system_server import Server
from wire_mutations import FUZZ_S, FUZZ_SEED

EXAMPLES = int(max(10, 5 * FUZZ_S))
"""Of each operation, beside the fixed ones of its coverage phase; ``make fuzz-api`` takes many more."""
LONGEST_S = 60 + 30 * EXAMPLES

HERE = Path(__file__).parent

AMPLE = 1_000_000
"""Reference tokens/s."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(LONGEST_S + 60)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With an endpoint whose answers take no time, however long they are, and whose range is never reached; and with
    one to be deleted."""
    data = tmp_path / "data"
    for name, units in (("llama", None), ("maverick", 50)):
        sell(data, name, chunk=AMPLE, units_per_chunk=units, at_once=True)
    with Server(data) as running:
        asked = {"name": "fuzzed", "config": config(chunk=AMPLE)}
        running.call("POST", "/api/2.0/serving-endpoints", asked)
        yield with_chat(running, chunk=AMPLE)


def finds_nothing(server: Server, folder: Path, document: str) -> None:
    command = [program_of("schemathesis", "schemathesis"), "--config-file", str(HERE / "schemathesis.toml"), "run"]
    options = ["--url", server.url, "--seed", str(FUZZ_SEED), "--max-examples", str(EXAMPLES), "--no-color"]
    variables = {
        "HEADRACE_API_KEY": server.key,
        "HEADRACE_ENDPOINT_ID": server.get(f"/api/2.0/serving-endpoints/{CHAT}")["id"],
    }
    done = subprocess.run(
        [*command, server.url + document, *options],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        cwd=folder,
        env=surroundings(folder, variables),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]


def test_the_control_plane_is_as_its_document_says(server: Server, tmp_path: Path) -> None:
    finds_nothing(server, tmp_path, "/api/headrace/v1/openapi.json")


def test_the_data_plane_is_as_its_document_says(server: Server, tmp_path: Path) -> None:
    finds_nothing(server, tmp_path, f"/api/2.0/serving-endpoints/{CHAT}/openapi")
