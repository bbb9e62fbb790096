"""Cross-origin requests (the Fetch standard's CORS protocol): which pages of a browser may call the data plane.

Keys travel in a header that a page must set itself, never in cookies, so no answer allows credentials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from headrace.wire.message import Header, Request

ANY = "*"
METHODS = b"GET, HEAD, POST, OPTIONS"
READABLE = (
    b"x-request-id, retry-after, retry-after-ms, served-model-name, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, x-headrace-input-tokens-estimate, "
    b"x-headrace-output-tokens-predicted, x-headrace-work-reserved, x-headrace-queue-ms, x-headrace-replica, "
    b"x-headrace-work, x-headrace-work-exact"
)
"""Fields of an answer that a page may read besides those that every page may."""
MAX_AGE_S = 600
"""How long a browser may go by the answer to a preflight."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+")
_FIELD_NAMES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z, \t]{1,4096}")


def check_origin(origin: str) -> None:
    """Raises ValueError for what no browser would send as its Origin."""
    if origin != ANY and not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{origin!r} is not an origin; expected such as https://app.example.com or http://localhost:3000 (lower "
            "case, no path, no slash at the end), or * for any"
        )


class Cors:
    """``origins``: those that may call, or ``*``; none at all turns it off."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    @property
    def on(self) -> bool:
        return bool(self._origins)

    def fields(self, origin: bytes | None) -> list[Header]:
        """Of every answer to a request with this Origin: whether the page may read it."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", READABLE)]
        # The answer differs by origin, which a cache between must know even where there was none.
        if origin is None or origin not in self._origins:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", READABLE),
            (b"vary", b"origin"),
        ]

    def preflight(self, request: Request) -> list[Header]:
        """More fields for the answer to a browser that asks before it sends; none where this is no such question, or
        not one of ours."""
        origin = request.header(b"origin")
        if origin is None or request.header(b"access-control-request-method") is None:
            return []
        if not self._any and origin not in self._origins:
            return []
        headers = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", b"%d" % MAX_AGE_S)]
        names = request.header(b"access-control-request-headers")
        if names is not None and _FIELD_NAMES.fullmatch(names):
            # Whatever the page wants to send: the client libraries send a dozen fields of their own.
            headers.append((b"access-control-allow-headers", names))
            headers.append((b"vary", b"access-control-request-headers"))
        return headers
