"""Databricks model units: another name for the size of a chunk."""

from __future__ import annotations

from headrace.controller.endpoint import Entity
from headrace.engines.base import ModelSettings

UNITS_PER_CHUNK = 50
"""As Databricks sells most of its models."""


def units_per_chunk(model: ModelSettings) -> int:
    return model.units_per_chunk or UNITS_PER_CHUNK


def units(entity: Entity) -> int:
    """Of a served entity of a fixed size."""
    return entity.max_chunks * units_per_chunk(entity.model)
