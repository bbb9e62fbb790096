"""One served entity at one moment, with all that metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.controller.answers import AnswerCounts
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.gateways import Gauges, Totals
from headrace.controller.series import Chunks


@dataclass(frozen=True, slots=True)
class Subject:
    """Counts are of all served entities of this name that the endpoint has had in the controller's life."""

    endpoint: Endpoint
    entity: Entity
    totals: Totals
    answers: AnswerCounts
    gauges: Gauges
    chunks: Chunks
    wanted: int
    """Chunks by the last scaling decision."""
    billed: int
    """Chunks, now."""
    served_tokens_s: float
    """Reference tokens/s, mean over the last minute."""

    @property
    def range_max_tokens_s(self) -> int:
        return self.entity.max_chunks * self.entity.chunk
