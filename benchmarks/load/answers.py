"""What the simulated server says, and the bytes of it."""

from __future__ import annotations

import msgspec

from headrace.engines.simulated.answers import DONE, TEXT, Answer, usage

MODEL = "bench"
ID = "chatcmpl-00000000"
"""Takes the place of a request's own id in what is encoded once; ids are of this length."""
INPUT_TOKENS = 32
"""Of every request, whatever it says."""
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: " + ID.encode() + b"\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How every stream of a measurement is answered."""

    events: int
    """That carry tokens; at least two."""
    tokens_an_event: int = 1
    interval_s: float = 0.0
    """One event of every open stream each time, as an engine that works in iterations sends them; 0: a stream's events
    in one write, at once."""
    record: bool = True
    """Keep the times of arrivals and events; False to see what keeping them costs."""

    @property
    def tokens(self) -> int:
        """Of a whole answer."""
        return self.events * self.tokens_an_event


def answer_id(number: int) -> bytes:
    return b"chatcmpl-%08d" % number


def chunk(data: bytes) -> bytes:
    """In HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Pieces:
    """An answer's pieces, each event a chunk of its own, encoded once with ``ID`` in place of the id."""

    def __init__(self, told: Answers) -> None:
        answer = Answer(ID, MODEL, chat=True)
        one, several = f'"content":"{TEXT}"'.encode(), f'"content":"{TEXT * told.tokens_an_event}"'.encode()
        self.first = chunk(answer.event(first=True).replace(one, several))
        self.middle = chunk(answer.event().replace(one, several))
        self.last = chunk(answer.event(last=True).replace(one, several))
        self.usage = chunk(answer.usage_event(usage(INPUT_TOKENS, told.tokens, 0)))
        self.end = chunk(DONE) + b"0\r\n\r\n"
        self.events = self.first + self.middle * (told.events - 2) + self.last
        whole = answer.whole(told.tokens, usage(INPUT_TOKENS, told.tokens, 0))
        self.whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(whole),
            whole,
        )
