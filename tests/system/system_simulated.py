"""Simulated replicas for tests of whole systems: a registered model, and the profile that measuring it would give."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.engines.base import ModelSettings
from headrace.models.registry import Registry
from headrace.profiles.files import path_of, save
from headrace.profiles.fit import MeasuredShape, fit_weights
from headrace.profiles.profile import IterationTime, Profile
from headrace.profiles.simulate import replica_seconds, true_chunk

SHAPES = ((2048, 256), (2048, 8), (1024, 128), (512, 64), (128, 256), (128, 64))


def simulated_profile(model: ModelSettings, iteration: IterationTime) -> Profile:
    """What measuring would find without any error: computed from the model that the simulated engine follows."""
    chunk = true_chunk(iteration, model.slots)
    fit = fit_weights(
        [MeasuredShape(i, o, replica_seconds(iteration, in_flight=model.slots, new=i, out=o)) for i, o in SHAPES]
    )
    return Profile(
        id="simulated-by-test",
        model=model.name,
        model_version=model.version,
        model_sha256=model.sha256,
        engine=model.engine,
        engine_version=None,
        status="measured",
        chunk=int(chunk),
        chunk_mean=chunk,
        chunk_low=chunk,
        chunk_high=chunk,
        slots=model.slots,
        weights=fit.weights,
        fit_error=fit.error,
        shapes=(),
        replicas_loaded=1,
        start_s=None,
        memory_bytes=None,
        hardware=None,
        measured_at=None,
        duration_s=0.0,
        method="computed from the iteration-time model of the simulated engine",
        simulated=True,
    )


def register_simulated(
    data: Path, name: str, iteration: IterationTime, *, slots: int, start_s: float = 0.0, version: str | None = None
) -> Profile:
    """A model of the simulated engine and its profile, in a data directory."""
    arguments = {"iteration": msgspec.to_builtins(iteration), "start_s": start_s}
    model = Registry(data / "models").add(name, version=version, simulated=True, slots=slots, engine_args=arguments)
    profile = simulated_profile(model, iteration)
    save(path_of(model, data / "profiles"), profile)
    return profile
