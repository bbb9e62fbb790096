"""A server that speaks https, as real clients and its own command line meet it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from databricks.sdk import WorkspaceClient
from openai import OpenAI
from system_server import HEADRACE, Server, clean_environment
from system_simulated import register_simulated

from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

FAST = IterationTime(base_s=0.002, prefill_s=0.0, decode_s=0.0005, context_s=0.0)


def issue(authority: trustme.CA, folder: Path) -> None:
    """A new certificate of 127.0.0.1 where the server looks for it."""
    issued = authority.issue_cert("127.0.0.1")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "key.pem").chmod(0o600)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Issues the server's certificates. The clients in this process trust it; commands are not told of it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issue(authority, tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


@pytest.fixture
def server(tmp_path: Path, authority: trustme.CA) -> Iterator[Server]:
    register_simulated(tmp_path / "data", "sim", FAST, slots=4)
    flags = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with Server(tmp_path / "data", *flags) as server:
        done = local(
            server, "endpoints", "create", "sim", "--model", "sim", "--min-chunks", "1", "--max-chunks", "1", "--wait"
        )
        assert done.returncode == 0, done.stderr
        yield server


def local(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """A command that finds the server by its data directory and knows of no authority."""
    environment = {name: value for name, value in clean_environment().items() if name != "SSL_CERT_FILE"}
    words = (*words, "--data-dir", str(server.data_dir))
    return subprocess.run([HEADRACE, *words], capture_output=True, text=True, timeout=60, env=environment, check=False)


def presented(server: Server) -> bytes:
    host, port = server.url.removeprefix("https://").split(":")
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))


def test_the_openai_client_and_the_commands_work_over_https(server: Server) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=30)
    whole = client.chat.completions.create(model="sim", messages=[{"role": "user", "content": "hi"}], max_tokens=5)
    assert whole.usage is not None and whole.usage.completion_tokens > 0
    stream = client.completions.create(
        model="sim", prompt="hi", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
    )
    assert sum(len(event.choices) for event in stream) >= 200
    status = local(server, "status", "--json")
    assert status.returncode == 0, status.stderr
    load = local(server, "load", "sim", "--users", "2", "--requests", "24", "--calibration", "0", "--json")
    assert load.returncode in (0, 3), load.stderr  # whether this machine's figures are valid is another question
    assert json.loads(load.stdout)["whole"]["counts"]["ok"] == 24


def test_a_client_that_does_not_know_the_authority_refuses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        server.get("/healthz")
    environment = clean_environment(HEADRACE_URL=server.url.replace("127.0.0.1", "localhost"), HEADRACE_API_KEY="k")
    done = subprocess.run(
        [HEADRACE, "status"], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 1 and "certificate verify failed" in done.stderr.lower()


def test_a_renewed_certificate_is_served_after_the_gateway_was_replaced(server: Server, authority: trustme.CA) -> None:
    before = presented(server)
    issue(authority, server.data_dir.parent)
    assert presented(server) == before
    done = local(server, "gateway", "restart")
    assert done.returncode == 0, done.stderr
    assert presented(server) != before
    assert local(server, "status").returncode == 0


def test_a_new_certificate_that_cannot_be_used_leaves_the_one_before(server: Server) -> None:
    before = presented(server)
    (server.data_dir.parent / "key.pem").write_text("none")
    done = local(server, "gateway", "restart")
    assert done.returncode == 1 and "expected PEM" in done.stderr
    assert presented(server) == before


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--tls-cert", "cert.pem"), "tls_cert is set and tls_key is not"),
        (("--tls-key", "key.pem"), "tls_key is set and tls_cert is not"),
        (("--tls-cert", "none.pem", "--tls-key", "key.pem"), "cannot read the TLS certificate"),
        (("--tls-cert", "cert.pem", "--tls-key", "ca.pem"), "expected PEM"),
    ],
)
def test_a_server_does_not_start_on_files_that_cannot_be_used(
    tmp_path: Path, authority: trustme.CA, flags: tuple[str, ...], says: str
) -> None:
    words = [HEADRACE, "serve", "--port", "0", "--data-dir", "data", *flags]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=30, env=clean_environment(), cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert says in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data" / "run" / "server.json").exists()


def test_a_key_that_everybody_can_read_is_warned_of(tmp_path: Path, authority: trustme.CA) -> None:
    os.chmod(tmp_path / "key.pem", 0o644)
    flags = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with Server(tmp_path / "data", *flags) as server:
        assert "every user of this machine can read" in server.said()


def test_a_service_principal_sends_its_secret_over_https_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads(local(server, "service-principals", "create", "job", "--json").stdout)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    job = WorkspaceClient(host=server.url, client_id=made["client_id"], client_secret=made["client_secret"])
    endpoints = job.config.databricks_oidc_endpoints
    assert endpoints is not None
    assert endpoints.token_endpoint == f"{server.url}/oidc/v1/token"
    assert job.serving_endpoints.get("sim").name == "sim"
