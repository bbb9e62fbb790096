"""One HTTP request to a server on 127.0.0.1, by the replica process that has started it.

``http.client`` would do; loading it, with the parser of e-mail that it brings, was half of what a replica's own modules
take to load.
"""

from __future__ import annotations

import socket

import msgspec

HOST = "127.0.0.1"


def ask(port: int, method: str, path: str, secret: str, body: object = None, *, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer; ``body`` is sent as JSON. ``timeout_s``: the longest wait for the next bytes.

    Raises OSError where no answer comes.
    """
    content = b"" if body is None else msgspec.json.encode(body)
    # HTTP/1.0: the answer is in no transfer coding, and ends with the connection.
    head = (
        f"{method} {path} HTTP/1.0\r\nhost: {HOST}:{port}\r\nconnection: close\r\nauthorization: Bearer {secret}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    answer = bytearray()
    with socket.create_connection((HOST, port), timeout_s) as connection:
        connection.sendall(head.encode() + content)
        while data := connection.recv(64 * 1024):
            answer += data
    head_lines, ended, text = bytes(answer).partition(b"\r\n\r\n")
    version, _, rest = head_lines.partition(b" ")
    if not ended or not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise ConnectionError("the server closed the connection without an answer in HTTP")
    return int(rest[:3]), text
