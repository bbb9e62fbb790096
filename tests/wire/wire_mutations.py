"""Bytes that are nearly requests: seeded mutations of the corpus, for a bounded time."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

from wire_corpus import Site, refused, served

FUZZ_S = float(os.environ.get("HEADRACE_FUZZ_S", "2"))
"""Seconds for each of the tests that fuzz."""
FUZZ_SEED = int(os.environ.get("HEADRACE_FUZZ_SEED", "1"))

LONGEST = 4096
TOKENS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"\0", b"\x0b", b"\x7f", b"\xff", b"0", b"1", b"a", b"-",
    b"+", b"0\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"chunked", b"identity", b"Host: a\r\n",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Expect: 100-continue\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip


def seeds() -> list[bytes]:
    """The corpus, as far as it is short."""
    site = Site()
    data = [data for _, data in refused(site).values()] + [entry.data for entry in served(site).values()]
    return [entry for entry in data if len(entry) <= LONGEST]


def mutated(rng: random.Random, pool: list[bytes]) -> bytes:
    """One to three requests of the pool with a few changes."""
    data = b"".join(rng.choice(pool) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        data = change(rng, data)
    return data


def change(rng: random.Random, data: bytes) -> bytes:
    """One small change anywhere."""
    at = rng.randrange(len(data) + 1)
    match rng.randrange(6):
        case 0:  # insert
            return data[:at] + rng.choice(TOKENS) + data[at:]
        case 1:  # delete
            return data[:at] + data[at + rng.randint(1, 8) :]
        case 2:  # replace one byte
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 3:  # repeat a line
            lines = data.split(b"\r\n")
            line = rng.randrange(len(lines))
            return b"\r\n".join(lines[: line + 1] + lines[line:])
        case 4:  # swap two lines
            lines = data.split(b"\r\n")
            one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            return b"\r\n".join(lines)
        case _:  # change the case of a part
            end = at + rng.randint(1, 12)
            return data[:at] + data[at:end].swapcase() + data[end:]


def streams(salt: str) -> Iterator[tuple[random.Random, bytes]]:
    """Mutated streams until the time is over; the same ones in the same order for the same seed."""
    rng = random.Random(f"{salt} {FUZZ_SEED}")
    pool = seeds()
    until = time.monotonic() + FUZZ_S
    while time.monotonic() < until:
        yield rng, mutated(rng, pool)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in reads of any size."""
    if rng.random() < 0.2:
        return [data[i : i + 1] for i in range(len(data))]
    pieces = []
    at = 0
    while at < len(data):
        size = rng.choice((1, 1, 2, 3, 7, 20, 100, 1000))
        pieces.append(data[at : at + size])
        at += size
    return pieces
