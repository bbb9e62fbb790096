"""The examples of ``docs/howto/clients.md`` are run as they stand there, each in the environment of its client."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients_programs import program_of, surroundings
from clients_server import config, sell
from system_server import Server, until

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "clients.md"
ENVIRONMENTS = {
    "OpenAI": "tests",
    "Databricks SDK": "tests",
    "MLflow": "databricks",
    "DatabricksOpenAI": "databricks",
    "LangChain": "databricks",
}
"""By heading."""

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Example:
    client: str
    code: str


def examples() -> list[Example]:
    found = []
    for section in re.split(r"^## ", HOWTO.read_text(), flags=re.MULTILINE)[1:]:
        client = section.partition("\n")[0]
        found += [Example(client, code) for code in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)]
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With what ``make serve`` has by its names, simulated."""
    data = tmp_path_factory.mktemp("howto") / "data"
    sell(data, "smollm2-135m-instruct")
    with Server(data) as running:
        asked = {"name": "smollm2", "config": config(1, 2, model="smollm2-135m-instruct")}
        running.call("POST", "/api/2.0/serving-endpoints", asked)
        endpoint = "/api/2.0/serving-endpoints/smollm2"
        until(lambda: running.get(endpoint)["state"]["ready"] == "READY", within_s=30, what="the endpoint is ready")
        yield running


def test_there_is_an_example_of_each_client() -> None:
    assert {example.client for example in examples()} == set(ENVIRONMENTS)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.client)
def test_an_example_runs_as_it_stands(example: Example, server: Server, tmp_path: Path) -> None:
    variables = {
        "OPENAI_BASE_URL": server.url + "/v1",
        "OPENAI_API_KEY": server.key,
        "DATABRICKS_HOST": server.url,
        "DATABRICKS_TOKEN": server.key,
    }
    done = subprocess.run(
        [program_of(ENVIRONMENTS[example.client], "python"), "-c", example.code],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=tmp_path,
        env=surroundings(tmp_path, variables),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "sim sim" in done.stdout, "it prints what was answered"
