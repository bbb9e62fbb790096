"""Which server a command speaks to, with which key, and the call itself."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from headrace.cli.errors import CommandError
from headrace.paths import DataDir
from headrace.wire.tls import TlsError, client_context, pinned_context

CALL_TIMEOUT_S = 60.0


class ServerGone(CommandError):
    """Nothing answers at the server's URL."""


class ApiError(CommandError):
    """The server answered with an error; ``code`` and ``http_status`` are its own."""

    def __init__(self, http_status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code


def data_dir(chosen: Path | None, environment: Mapping[str, str] | None = None) -> DataDir:
    """The local data directory: the flag, ``HEADRACE_DATA_DIR``, or ``./headrace-data``."""
    environment = os.environ if environment is None else environment
    return DataDir(Path(chosen or environment.get("HEADRACE_DATA_DIR") or "headrace-data"))


@dataclass(frozen=True, slots=True)
class Connection:
    """A server and the key that belongs to it."""

    url: str
    key: str | None = field(repr=False)
    cert: Path | None = None
    """The local server's own certificate: it is known, so no authority is asked."""

    def tls(self) -> ssl.SSLContext | None:
        """For an https URL. Raises CommandError."""
        if urlsplit(self.url).scheme != "https":
            return None
        try:
            return client_context() if self.cert is None else pinned_context(self.cert)
        except TlsError as error:
            raise CommandError(str(error)) from None

    def get(self, path: str, **query: object) -> Any:
        """A list in ``query`` is a parameter that is given several times."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", path + (f"?{urlencode(given, doseq=True)}" if given else ""))

    def post(self, path: str, body: object) -> Any:
        return self.call("POST", path, body)

    def put(self, path: str, body: object) -> Any:
        return self.call("PUT", path, body)

    def patch(self, path: str, body: object) -> Any:
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def open(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection to the server, not connected yet."""
        host, tls = urlsplit(self.url).netloc, self.tls()
        if tls is None:
            return http.client.HTTPConnection(host, timeout=timeout_s)
        return http.client.HTTPSConnection(host, timeout=timeout_s, context=tls)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises ServerGone or ApiError. Never retries."""
        parts = urlsplit(self.url)
        headers = {"Accept": "application/json", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self.open(CALL_TIMEOUT_S)
        try:
            connection.request(
                method, parts.path.rstrip("/") + path, None if body is None else json.dumps(body), headers
            )
            response = connection.getresponse()
            content = response.read()
        except ConnectionRefusedError:
            raise ServerGone(
                f"no server answers at {self.url}; start one with `headrace serve`, or name it with --url"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerGone(f"cannot reach {self.url}: {error or type(error).__name__}") from None
        finally:
            connection.close()
        return _read(self.url, response.status, content)


def _read(url: str, status: int, content: bytes) -> Any:
    try:
        body = json.loads(content) if content else None
    except ValueError:
        raise ApiError(
            status, "NOT_JSON", f"{url} answered {status} with something that is not JSON; is it a Headrace server?"
        ) from None
    if status < 400:
        return body
    error = body if isinstance(body, dict) else {}
    code = str(error.get("error_code") or status)
    raise ApiError(
        status, code, f"{error.get('message') or http.client.responses.get(status, 'error')} ({status} {code})"
    )


def path_part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def connect(
    url: str | None, key: str | None, chosen: Path | None, environment: Mapping[str, str] | None = None
) -> Connection:
    """The server to speak to. A key from one source is never sent to a URL from a weaker, unrelated one.

    Raises CommandError where no server is named and none runs on the data directory.
    """
    environment = os.environ if environment is None else environment
    key = key or environment.get("HEADRACE_API_KEY") or None
    url = url or environment.get("HEADRACE_URL") or None
    if url is None and environment.get("DATABRICKS_HOST"):
        return Connection(_checked(environment["DATABRICKS_HOST"]), key or environment.get("DATABRICKS_TOKEN"))
    directory = data_dir(chosen, environment)
    if url is not None:
        url = _checked(url)
        if url == local_url(directory):
            return Connection(url, key or _admin_key(directory), local_cert(directory))
        return Connection(url, key)
    local = local_url(directory)
    if local is None:
        raise ServerGone(
            f"no server runs on the data directory {directory.root}; start one with `headrace serve`, or name one with "
            "--url or HEADRACE_URL"
        )
    return Connection(local, key or _admin_key(directory), local_cert(directory))


def _checked(url: str) -> str:
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{url!r} is not the URL of a server; expected such as http://127.0.0.1:8080", status=2)
    return url.rstrip("/")


def local_url(directory: DataDir) -> str | None:
    """Where the server of a data directory listens, or did when it last ran."""
    url = _note(directory).get("url")
    return url.rstrip("/") if isinstance(url, str) else None


def local_cert(directory: DataDir) -> Path | None:
    """The certificate of the server of a data directory, where it speaks TLS."""
    cert = _note(directory).get("tls_cert")
    return Path(cert) if isinstance(cert, str) else None


def _note(directory: DataDir) -> dict[str, object]:
    try:
        note = json.loads(directory.server_note.read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _admin_key(directory: DataDir) -> str | None:
    try:
        return directory.admin_key.read_text().strip() or None
    except OSError:
        return None
