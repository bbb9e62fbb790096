"""Service principals, permissions and rate limits of a whole server, over the death of its controller."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import PermissionDenied, Unauthenticated
from databricks.sdk.service.serving import (
    ChatMessage,
    ChatMessageRole,
    ServingEndpointAccessControlRequest,
    ServingEndpointPermissionLevel,
)
from system_server import Server, until
from system_simulated import register_simulated

from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

FAST = IterationTime(base_s=0.002, prefill_s=0.0, decode_s=0.0005, context_s=0.0)
HELLO = [ChatMessage(role=ChatMessageRole.USER, content="hello")]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With the endpoint ``sim`` of one chunk."""
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    register_simulated(tmp_path / "data", "sim", FAST, slots=4)
    with Server(tmp_path / "data") as running:
        running.cli("endpoints", "create", "sim", "--model", "sim", "--min-chunks", "1", "--max-chunks", "1", "--wait")
        yield running


def controller(server: Server) -> psutil.Process | None:
    found = (one for one in server.family() if "headrace.controller.main" in one.cmdline())
    return next(found, None)


def ask(client: WorkspaceClient) -> str:
    answer = client.serving_endpoints.query("sim", messages=HELLO, max_tokens=2)
    assert answer.choices is not None and answer.choices[0].message is not None
    return str(answer.choices[0].message.content)


def files_with(server: Server, secret: str) -> list[str]:
    """Everything that the server wrote, logs and database included."""
    files = [server.output, *(path for path in server.data_dir.rglob("*") if path.is_file())]
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


def test_tokens_and_permissions_outlive_the_controller_and_end_with_their_principal(server: Server) -> None:
    made = server.cli_json("service-principals", "create", "job")
    job = WorkspaceClient(host=server.url, client_id=made["client_id"], client_secret=made["client_secret"])
    admin = WorkspaceClient(host=server.url, token=server.key)
    endpoint_id = admin.serving_endpoints.get("sim").id
    assert endpoint_id is not None
    assert ask(job)

    admin.serving_endpoints.set_permissions(endpoint_id, access_control_list=[])
    with pytest.raises(PermissionDenied, match="CAN_QUERY"):
        ask(job)
    given = ServingEndpointAccessControlRequest(
        service_principal_name=made["client_id"], permission_level=ServingEndpointPermissionLevel.CAN_QUERY
    )
    admin.serving_endpoints.update_permissions(endpoint_id, access_control_list=[given])
    assert ask(job)

    before = controller(server)
    assert before is not None
    before.kill()
    assert ask(job), "gateways serve on without it"
    until(
        lambda: (now := controller(server)) is not None and now.pid != before.pid and answers(server),
        within_s=30,
        what="another controller answers",
    )
    assert ask(job)
    assert job.serving_endpoints.get("sim").permission_level is not None
    token = job.config.oauth_token().access_token
    other = server.cli_json("keys", "create", "--user", "ann")
    with pytest.raises(PermissionDenied, match="'ann' may not query"):
        ask(WorkspaceClient(host=server.url, token=other["key"]))
    usage = server.get("/api/headrace/v1/usage?group=key")["rows"]
    assert made["client_id"] in {row["group"] for row in usage}
    assert [files_with(server, secret) for secret in (made["client_secret"], token)] == [[], []]

    server.cli("service-principals", "delete", made["client_id"])
    with pytest.raises(Unauthenticated):
        ask(job)
    with pytest.raises(Unauthenticated):
        job.serving_endpoints.get("sim")


def answers(server: Server) -> bool:
    try:
        server.get("/api/headrace/v1/status")
    except urllib.error.HTTPError:
        return False
    return True
