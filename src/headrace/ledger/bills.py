"""Bills: hourly lines, each with the numbers that it was made from, so that anybody can make it again."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from headrace.ledger.capacity import CapacityTimeline
from headrace.policy.billing import Line, hourly_lines

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class EndpointBill:
    """One endpoint over one time."""

    endpoint: str
    """Id."""
    lines: tuple[Line, ...]

    @property
    def chunk_ms(self) -> int:
        return sum(line.chunk_ms for line in self.lines)

    @property
    def amount_micro(self) -> int:
        """The sum of the lines, each of which was rounded once."""
        return sum(line.amount_micro for line in self.lines)


def bill(timeline: CapacityTimeline, endpoint: str, from_ms: int, to_ms: int, now_ms: int) -> EndpointBill:
    """What the endpoint cost in [from_ms, to_ms); time after ``now_ms`` has not been provided and costs nothing."""
    end = min(to_ms, now_ms)
    return EndpointBill(endpoint, tuple(hourly_lines(timeline.points(endpoint, end), from_ms, end)))


def decimal(amount_micro: int) -> str:
    """Micro-units as a decimal string with all six places, such as ``0.041667``."""
    return str(Decimal(amount_micro).scaleb(-6).quantize(Decimal(1) / MICRO))
