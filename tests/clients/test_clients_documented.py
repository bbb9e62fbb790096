"""Requests of Databricks' CLI and of its Terraform provider, as their documentation has them. Both are programs of Go
that no package index of Python has, so their bodies are sent as they are."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator

import pytest
from clients_documented import NOT_DONE, PROMISED, Documented
from clients_server import sell
from system_server import Server, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the models that the examples name, in chunks that make their ranges whole."""
    data = tmp_path_factory.mktemp("documented") / "data"
    sell(data, "system.ai.llama_v3_2_3b_instruct", version="2", chunk=22000)
    sell(data, "system.ai.llama-4-maverick", units_per_chunk=50)
    sell(data, "ml.llm-catalog.mpt", chunk=980)
    with Server(data) as running:
        yield running


def test_what_is_documented_is_done(server: Server) -> None:
    """One after the other: some change what an earlier one has made."""
    id = ""
    for asked in PROMISED:
        try:
            told = server.call(asked.method, asked.path.format(id=id), asked.body)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{asked.name}: {error.code} {error.read().decode()}") from None
        id = told.get("id", id) if isinstance(told, dict) else id
        if asked.method != "DELETE":
            settle(server)


def settle(server: Server) -> None:
    def settled() -> bool:
        endpoints = server.get("/api/2.0/serving-endpoints")["endpoints"]
        return all(endpoint["state"]["config_update"] == "NOT_UPDATING" for endpoint in endpoints)

    until(settled, within_s=30, what="every endpoint is as it was asked for")


@pytest.mark.parametrize("asked", NOT_DONE, ids=lambda asked: asked.name)
def test_what_is_documented_and_not_done_is_refused_by_its_name(server: Server, asked: Documented) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.call(asked.method, asked.path, asked.body)
    told = json.loads(caught.value.read())
    assert (caught.value.code, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert asked.refused in told["message"]
