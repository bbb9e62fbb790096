"""TLS: contexts of servers and clients, made so that a mistake in the files is said in words."""

from __future__ import annotations

import re
import ssl
import stat
from functools import lru_cache
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TlsError(Exception):
    """Certificate and key cannot be used; the message says why and what to do."""


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1 by ALPN. ``cert``: PEM, the server's own certificate first, then its chain.

    Raises TlsError.
    """
    for what, path in (("certificate", cert), ("key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise TlsError(f"cannot read the TLS {what} {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def no_password() -> str:
        raise TlsError(f"the TLS key {key} is encrypted; give one that is not, readable by its owner alone")

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise TlsError(_said(error, cert, key)) from None
    return context


def _said(error: ssl.SSLError, cert: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the TLS key {key} does not belong to the certificate {cert} (the first one in that file)"
    return (
        f"the TLS certificate {cert} or the key {key} is not usable ({error.reason or error}); expected PEM: the "
        "server's certificate with its chain after it, and a private key"
    )


def readable_by_all(key: Path) -> bool:
    """Every user of this machine could take the key."""
    return bool(key.stat().st_mode & stat.S_IROTH)


@lru_cache(maxsize=1)
def client_context() -> ssl.SSLContext:
    """Trusts the system's authorities, or those of ``SSL_CERT_FILE``. One for all: it takes a while to read them."""
    return ssl.create_default_context()


def pinned_context(cert: Path) -> ssl.SSLContext:
    """For a client that has the server's own certificate file: trusts the first certificate in it and no other, under
    whatever name the server was called. Raises TlsError."""
    try:
        own = _CERTIFICATE.search(cert.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise TlsError(f"cannot read the server's certificate {cert}: {error}") from None
    if own is None:
        raise TlsError(f"there is no certificate in {cert}; expected PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is this very certificate that is trusted
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=own[0])
    return context
