"""Which server and which key a command takes, and what it says when there is none."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.connection import ApiError, Connection, ServerGone, connect
from headrace.cli.errors import CommandError
from headrace.paths import DataDir


@pytest.fixture
def local(data_dir: DataDir) -> Path:
    """A data directory as a running server leaves it."""
    data_dir.server_note.write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:8080/", "started_ms": 0}))
    data_dir.admin_key.write_text("hr-local.key\n")
    return data_dir.root


def test_without_a_word_the_local_server_and_its_admin_key(local: Path) -> None:
    assert connect(None, None, local, {}) == Connection("http://127.0.0.1:8080", "hr-local.key")


def test_the_data_directory_may_come_from_the_environment(local: Path) -> None:
    assert connect(None, None, None, {"HEADRACE_DATA_DIR": str(local)}).key == "hr-local.key"


def test_flags_win_over_headrace_variables_and_these_over_databricks_variables(local: Path) -> None:
    environment = {
        "HEADRACE_URL": "http://h:1",
        "HEADRACE_API_KEY": "hk",
        "DATABRICKS_HOST": "http://d:1",
        "DATABRICKS_TOKEN": "dt",
    }
    assert connect("f:1", "fk", local, environment) == Connection("http://f:1", "fk")
    assert connect(None, None, local, environment) == Connection("http://h:1", "hk")
    del environment["HEADRACE_URL"], environment["HEADRACE_API_KEY"]
    assert connect(None, None, local, environment) == Connection("http://d:1", "dt")


@pytest.mark.parametrize("environment", [{}, {"DATABRICKS_TOKEN": "dt"}])
def test_a_key_is_never_sent_to_a_server_that_it_does_not_belong_to(local: Path, environment: dict[str, str]) -> None:
    assert connect("http://elsewhere:1", None, local, environment).key is None
    assert connect(None, None, local, environment | {"HEADRACE_URL": "http://elsewhere:1"}).key is None
    assert connect("http://127.0.0.1:8080", None, local, environment).key == "hr-local.key"


def test_a_key_does_not_show_when_a_connection_is_printed() -> None:
    assert "secret" not in repr(Connection("http://h:1", "secret"))


def test_no_server_on_the_data_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServerGone, match=r"no server runs on the data directory .*headrace serve"):
        connect(None, None, tmp_path, {})


@pytest.mark.parametrize("url", ["ftp://x", "http://", "://"])
def test_a_url_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is not the URL of a server") as refused:
        connect(url, None, tmp_path, {})
    assert refused.value.status == 2


class Toy(http.server.BaseHTTPRequestHandler):
    """Answers each path in its own way."""

    def do_GET(self) -> None:
        answers: dict[str, tuple[int, bytes]] = {
            "/ok": (200, json.dumps({"key": self.headers["Authorization"]}).encode()),
            "/empty": (200, b""),
            "/refused": (409, b'{"error_code": "RESOURCE_CONFLICT", "message": "it is updating"}'),
            "/html": (200, b"<html>"),
        }
        status, body = answers[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def toy() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Toy)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_is_its_json_and_the_key_goes_along(toy: str) -> None:
    assert Connection(toy, "k").get("/ok", skipped=None, taken=1) == {"key": "Bearer k"}
    assert Connection(toy, None).get("/empty") is None


def test_an_error_carries_the_servers_words_status_and_code(toy: str) -> None:
    with pytest.raises(ApiError, match=r"it is updating \(409 RESOURCE_CONFLICT\)") as refused:
        Connection(toy, None).get("/refused")
    assert (refused.value.http_status, refused.value.code) == (409, "RESOURCE_CONFLICT")


def test_something_that_is_no_headrace_server_is_named(toy: str) -> None:
    with pytest.raises(ApiError, match="not JSON; is it a Headrace server"):
        Connection(toy, None).get("/html")


def test_a_server_that_is_gone_is_named(toy: str) -> None:
    with pytest.raises(ServerGone, match=r"no server answers at http://127\.0\.0\.1:1;"):
        Connection("http://127.0.0.1:1", None).get("/")
