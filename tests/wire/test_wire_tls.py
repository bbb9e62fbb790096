"""TLS on the server's side, with certificates made for the test."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from wire_peer import Peer, Serve

from headrace.wire.client import Client, ConnectFailed
from headrace.wire.exchange import Exchange
from headrace.wire.request_parser import Limits
from headrace.wire.server import Server
from headrace.wire.tls import TlsError, pinned_context, readable_by_all, server_context

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Files:
    """A certificate of localhost as an operator has it, and a client that trusts its authority."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.key.chmod(0o600)

    @property
    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    @property
    def server(self) -> ssl.SSLContext:
        return server_context(self.cert, self.key)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


async def secure(server: Server, context: ssl.SSLContext) -> Peer:
    return Peer(*await asyncio.open_connection("localhost", server.port, ssl=context))


async def silent(server: Server) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", server.port))


async def until(server: Server, connections: int) -> None:
    async with asyncio.timeout(10):
        while True:
            if server.connections == connections:
                return
            await asyncio.sleep(0)


async def test_requests_are_served_over_tls_and_http_1_1_is_agreed_on(files: Files, serve: Serve) -> None:
    def echo(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.write(exchange.request.body)
        exchange.finish()

    server = await serve(echo, port=0, tls=files.server)
    client = files.client
    client.set_alpn_protocols(["h2", "http/1.1"])
    peer = await secure(server, client)
    agreed: ssl.SSLObject = peer.writer.get_extra_info("ssl_object")
    assert (agreed.selected_alpn_protocol(), agreed.version()) == ("http/1.1", "TLSv1.3")
    body = os.urandom(3_000_000)
    for _ in range(2):
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert b"transfer-encoding: chunked\r\n" in await peer.head()
        received = b""
        async with asyncio.timeout(10):
            while size := int(await peer.reader.readline(), 16):
                received += await peer.reader.readexactly(size)
                await peer.reader.readexactly(2)
            await peer.reader.readexactly(2)
        assert received == body
    peer.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_versions_before_1_2_are_refused(files: Files, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.respond(200), port=0, tls=files.server)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await secure(server, old)
    await until(server, 0)


async def test_a_malformed_request_gets_its_answer_over_tls_too(files: Files, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.respond(200), port=0, tls=files.server)
    peer = await secure(server, files.client)
    peer.send(b"GET / HTTP/1.1\r\nX : a\r\n\r\n" + b"x" * 100_000)
    assert (await peer.answer())[0] == 400
    peer.close()
    await until(server, 0)


async def test_a_client_that_never_shakes_hands_is_counted_and_closed_in_time(files: Files, serve: Serve) -> None:
    limits = Limits(handshake_timeout_s=0.2)
    server = await serve(lambda exchange: exchange.respond(200), limits=limits, port=0, tls=files.server)
    peers = [await silent(server) for _ in range(3)]
    await until(server, 3)
    for peer in peers:
        assert await peer.rest() == b""
    assert server.connections == 0


async def test_connections_beyond_the_limit_are_closed_before_the_handshake(files: Files, serve: Serve) -> None:
    limits = Limits(connections=2)
    server = await serve(lambda exchange: exchange.respond(200), limits=limits, port=0, tls=files.server)
    served = await secure(server, files.client)
    held = await silent(server)
    await until(server, 2)
    refused = await silent(server)
    assert await refused.rest() == b""
    served.send(GET)
    assert (await served.answer())[0] == 200
    held.close()
    await until(server, 1)
    (await secure(server, files.client)).close()
    served.close()


async def test_plain_http_on_a_tls_port_is_closed_and_others_are_served(files: Files, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.respond(200), port=0, tls=files.server)
    plain = await silent(server)
    plain.send(GET)
    assert b"HTTP" not in await plain.rest()
    peer = await secure(server, files.client)
    peer.send(GET)
    assert (await peer.answer())[0] == 200
    peer.close()


async def test_a_drain_waits_for_no_handshake_unless_a_request_may_follow(files: Files, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.respond(200), port=0, tls=files.server)
    peer = await silent(server)
    await until(server, 1)
    server.close_listener()
    async with asyncio.timeout(5):
        assert await server.drain(60.0) == 0
    assert await peer.rest() == b""

    server = await serve(lambda exchange: exchange.respond(200), port=0, tls=files.server)
    peer = await silent(server)
    await until(server, 1)
    server.close_listener()
    draining = asyncio.create_task(server.drain(60.0, last_request_s=60.0))
    await peer.writer.start_tls(files.client, server_hostname="localhost")
    peer.send(GET)
    assert b"connection: close\r\n" in await peer.head()
    peer.close()
    async with asyncio.timeout(10):
        assert await draining == 0


async def test_the_client_speaks_tls_to_whom_it_trusts(files: Files, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.respond(200, [], exchange.request.body), port=0, tls=files.server)
    body = os.urandom(1_000_000)
    for trusts in (files.client, pinned_context(files.cert)):
        async with Client(f"https://127.0.0.1:{server.port}", tls=trusts) as client:
            for _ in range(3):
                response = await client.request("POST", "/", body=body)
                assert await response.read() == body
            assert server.connections == 1
        await until(server, 0)
    async with Client(f"https://127.0.0.1:{server.port}") as client:
        with pytest.raises(ConnectFailed, match="certificate verify failed"):
            await client.request("GET", "/")


async def test_a_pinned_certificate_is_trusted_alone(files: Files, serve: Serve, tmp_path: Path) -> None:
    issued = files.authority.issue_cert("localhost", "127.0.0.1")  # by the same authority, for the same name
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    server = await serve(lambda exchange: exchange.respond(200), port=0, tls=server_context(cert, key))
    async with Client(f"https://127.0.0.1:{server.port}", tls=pinned_context(files.cert)) as client:
        with pytest.raises(ConnectFailed, match="certificate verify failed"):
            await client.request("GET", "/")


def test_a_pin_that_is_no_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="no certificate in"):
        pinned_context(files.key)
    with pytest.raises(TlsError, match="cannot read"):
        pinned_context(tmp_path / "none.pem")


def test_files_that_cannot_be_used_are_named(files: Files, tmp_path: Path) -> None:
    other = trustme.CA().issue_cert("localhost")
    wrong, text, locked = tmp_path / "wrong.pem", tmp_path / "text.pem", tmp_path / "locked.pem"
    wrong.write_bytes(other.private_key_pem.bytes())
    text.write_text("not PEM")
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    for cert, key, says in (
        (tmp_path / "none.pem", files.key, r"cannot read the TLS certificate .*none\.pem: No such file"),
        (files.cert, tmp_path / "none.pem", r"cannot read the TLS key .*none\.pem: No such file"),
        (tmp_path, files.key, r"cannot read the TLS certificate .*: Is a directory"),
        (files.cert, wrong, "does not belong to the certificate"),
        (text, files.key, "expected PEM"),
        (files.cert, text, "expected PEM"),
        (files.cert, locked, "is encrypted"),
    ):
        with pytest.raises(TlsError, match=says):
            server_context(cert, key)


def test_a_key_that_all_may_read_is_noticed(files: Files, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(files.key.read_bytes())
    key.chmod(0o644)
    assert readable_by_all(key)
    assert not readable_by_all(files.key)
