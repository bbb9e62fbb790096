"""What a client is asked to do."""

from __future__ import annotations

import msgspec
from answers import INPUT_TOKENS, Answers


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of ``users`` and ``rate``."""

    users: int | None = None
    """Who each send the next request when the last is answered."""
    rate: float | None = None
    """Requests/s, evenly spaced."""
    seconds: float
    answers: Answers
    """What the server will say, for clients that ask for a length."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Given to the clients of this folder on their standard input."""

    port: int
    load: Load
    file: str
    """For what they have to tell."""

    def body(self) -> bytes:
        """Of a request: as long a prompt as the other clients are told to make."""
        return msgspec.json.encode(
            {
                "model": "bench",
                "messages": [{"role": "user", "content": "flume " * INPUT_TOKENS}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": self.load.answers.tokens,
            }
        )
