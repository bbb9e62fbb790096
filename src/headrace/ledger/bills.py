"""Bills: hourly lines, each with the numbers that it was made from, so that anybody can make it again."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from headrace.ledger.capacity import CapacityTimeline
from headrace.policy.billing import Line, hourly_lines

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class EntityBill:
    """One served entity over one time."""

    entity: str
    """Id."""
    lines: tuple[Line, ...]

    @property
    def chunk_ms(self) -> int:
        return sum(line.chunk_ms for line in self.lines)

    @property
    def amount_micro(self) -> int:
        """The sum of the lines, each of which was rounded once."""
        return sum(line.amount_micro for line in self.lines)


@dataclass(frozen=True, slots=True)
class EndpointBill:
    """One endpoint over one time: the sum of all that it served."""

    endpoint: str
    """Id."""
    entities: tuple[EntityBill, ...]
    """Those that cost something."""

    @property
    def chunk_ms(self) -> int:
        return sum(entity.chunk_ms for entity in self.entities)

    @property
    def amount_micro(self) -> int:
        return sum(entity.amount_micro for entity in self.entities)


def bill(timeline: CapacityTimeline, endpoint: str, from_ms: int, to_ms: int, now_ms: int) -> EndpointBill:
    """What the endpoint cost in [from_ms, to_ms); time after ``now_ms`` has not been provided and costs nothing."""
    end = min(to_ms, now_ms)
    entities = (
        EntityBill(entity, tuple(hourly_lines(points, from_ms, end)))
        for entity, points in timeline.points(endpoint, end).items()
    )
    return EndpointBill(endpoint, tuple(one for one in entities if one.lines))


def decimal(amount_micro: int) -> str:
    """Micro-units as a decimal string with all six places, such as ``0.041667``."""
    return str(Decimal(amount_micro).scaleb(-6).quantize(Decimal(1) / MICRO))
